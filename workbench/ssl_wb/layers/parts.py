"""Named parts of a training step, for torch's profiler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch.profiler import record_function

__all__ = ["PARTS", "part", "recorded_parts"]

#: Parts of a step, in the order in which tables show them.
PARTS = (
    *("data", "front end", "masking", "student", "teacher", "predictor", "objectives"),
    *("backward", "clipping", "optimiser", "EMA"),
)

_recording = False
_NO_RANGE = nullcontext()


def part(name: str) -> AbstractContextManager[object]:
    """Return a profiler range called ``name`` inside :func:`recorded_parts`, and elsewhere a context that does nothing.

    ``record_function`` costs tens of microseconds even while no profiler runs. A small model on a fast GPU would feel
    a dozen of them in every step.
    """
    return record_function(name) if _recording else _NO_RANGE


@contextmanager
def recorded_parts() -> Iterator[None]:
    """Turn :func:`part` into profiler ranges for what runs inside."""
    global _recording
    before, _recording = _recording, True
    try:
        yield
    finally:
        _recording = before
