"""The parts of a profiled training step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ssl_wb.layers.parts import PARTS

__all__ = ["REST", "part_seconds"]

#: What no part takes.
REST = "rest"


class _Interval(Protocol):
    """Start and end in microseconds."""

    start: float
    end: float


class _Event(Protocol):
    """What is used of an event of torch's profiler."""

    name: str
    is_user_annotation: bool
    time_range: _Interval


def part_seconds(events: Iterable[_Event], whole: float) -> dict[str, float]:
    """Add up the seconds of each part of a step.

    Of parts within parts the outermost counts: latents that a masker asks for are masking, though the teacher computes
    them.

    Args:
        events: of torch's profiler, with ranges opened by :func:`ssl_wb.layers.parts.part`.
        whole: seconds of the step.

    Returns:
        Seconds by part, and the rest.
    """
    ranges = [event for event in events if event.is_user_annotation and event.name in PARTS]
    seconds: dict[str, float] = {}
    ended = float("-inf")
    for event in sorted(ranges, key=lambda event: (event.time_range.start, -event.time_range.end)):
        if event.time_range.start >= ended:
            ended = event.time_range.end
            seconds[event.name] = seconds.get(event.name, 0.0) + 1e-6 * (ended - event.time_range.start)
    seconds[REST] = max(0.0, whole - sum(seconds.values()))
    return seconds
