"""SIGTERM and Ctrl-C, acted on at the end of a step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from torch import Tensor

from ssl_wb.layers.processes import mean_over_processes

__all__ = ["StopSignal"]


class StopSignal:
    """Records a signal that asks the run to stop, and tells whether any process of the run got one.

    Args:
        device: where the processes exchange whether they were asked.
        processes: how many there are.

    Attributes:
        number: of the signal that this process got, None so far.
    """

    def __init__(self, device: torch.device, processes: int) -> None:
        self.number: int | None = None
        self._device, self._processes = device, processes
        self._async_device = device.type == "cuda"
        self._asked: Tensor | None = None

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Record SIGTERM and Ctrl-C instead of ending; a second one ends at once."""

        def note(number: int, frame: FrameType | None) -> None:
            if self.number is not None:
                raise KeyboardInterrupt
            self.number = number

        before = {}
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                before[number] = signal.signal(number, note)
        except ValueError:
            pass  # not in the main thread: Python allows handlers only there, and the caller keeps its own
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether any process was asked to stop; all processes call this after each step, and leave together."""
        if self._processes == 1:
            return self.number is not None
        # Created on the device: a copy from the host would wait for the queue of the GPU.
        asked = mean_over_processes(torch.full((), float(self.number is not None), device=self._device))
        if self._async_device:
            # The answer of the step before is there already; the host would have to wait for this one.
            asked, self._asked = self._asked if self._asked is not None else torch.zeros(()), asked
        return bool(asked > 0)
