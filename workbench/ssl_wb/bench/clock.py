"""The clock that splits a training step into parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from ssl_wb.plugin.masker import Mask, Masker, MaskRequest

__all__ = ["PARTS", "REST", "PartsClock", "TimedMasker", "wait_for_device"]

#: Parts of a step, in the order they are shown; what none of them takes is the rest.
PARTS = (
    *("data", "front end", "masking", "student", "teacher", "predictor", "objectives"),
    *("backward", "clipping", "optimiser", "EMA"),
)
REST = "rest"

Item = TypeVar("Item")


def wait_for_device(device: torch.device) -> None:
    """Wait until a GPU has done what it was asked to; the CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class PartsClock:
    """Adds up the seconds of each part of a step while it is on; off, it costs a comparison.

    Of parts within parts the outermost counts: latents that a masker asks for are masking, a teacher's norm that an
    objective applies is the objective's. On a GPU both ends of a part wait for the device, so that a part has the time
    of its own kernels; what would have overlapped does not, and the clock is therefore off where steps are compared.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.on = False
        self.tracing = False  # name the parts in a profiler's trace
        self.seconds: dict[str, float] = {}
        self.current: str | None = None  # the part that runs

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what runs inside as part ``name``."""
        if self.tracing:
            with torch.profiler.record_function(name):
                yield
            return
        if not self.on or self.current is not None:
            yield
            return
        self.current = name
        wait_for_device(self.device)
        began = time.perf_counter()
        try:
            yield
        finally:
            wait_for_device(self.device)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
            self.current = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """Switch the clock on for one step, from zero."""
        self.seconds = {}
        self.on = True
        try:
            yield
        finally:
            self.on = False

    def watch(self, owner: object, method: str, name: str | Callable[[], str]) -> None:
        """Count every call of a method of one object as a part.

        Args:
            owner: the object; its class stays as it is.
            method: name of the method, ``forward`` for a module's call.
            name: the part, or what says it at the time of the call.
        """
        inner = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name if isinstance(name, str) else name()):
                return inner(*args, **kwargs)

        setattr(owner, method, timed)

    def watch_items(self, items: Iterator[Item], name: str) -> Iterator[Item]:
        """Iterate over ``items``, counting the wait for each as a part."""
        while True:
            with self.part(name):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item


class TimedMasker:
    """A masker whose calls are counted as masking; in all else the masker itself."""

    def __init__(self, masker: Masker, clock: PartsClock) -> None:
        self._masker = masker
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._masker, name)

    def __call__(self, request: MaskRequest) -> tuple[Mask, ...]:
        """Return the masker's masks; ``request.patches`` is ``[B, N, P]``."""
        with self._clock.part("masking"):
            return self._masker(request)
