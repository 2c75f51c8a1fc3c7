"""What asks a run to stop at the end of a step: SIGTERM, SIGUSR1, Ctrl-C, or its time is up."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import torch
from torch import Tensor

from ssl_wb.errors import InterruptedRunError
from ssl_wb.layers.processes import mean_over_processes
from ssl_wb.runs.folder import RunFolder
from ssl_wb.training.reporting import Reporter

__all__ = ["StopSignal"]

#: Ctrl-C reaches each of several processes twice: from the terminal, and from the launcher. A second one counts after
#: so many seconds.
TWICE = 1.0


class StopSignal:
    """Records what asks the run to stop, and tells whether any process of the run was asked.

    Args:
        device: where the processes exchange whether they were asked.
        processes: how many there are.
        until: ``time.monotonic()`` at which the run is to stop; None for no limit.

    Attributes:
        number: of the signal that this process got, None so far.
    """

    def __init__(self, device: torch.device, processes: int, until: float | None = None) -> None:
        self.number: int | None = None
        self._until = until
        self._since = 0.0  # when the signal came
        self._device, self._processes = device, processes
        self._async_device = device.type == "cuda"
        self._asked: Tensor | None = None

    @property
    def wanted(self) -> bool:
        """Whether this process was asked to stop."""
        return self.number is not None or self.time_is_up

    @property
    def time_is_up(self) -> bool:
        """Whether the run has had its time."""
        return self._until is not None and time.monotonic() >= self._until

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Record SIGTERM, SIGUSR1 (Slurm's notice before the limit) and Ctrl-C instead of ending.

        Ctrl-C ends at once where a signal came before. SIGTERM does not: `timeout` and batch systems send it to the
        process and to its group.
        """

        def note(number: int, frame: FrameType | None) -> None:
            now = time.monotonic()
            if self.number is None:
                self.number, self._since = number, now
            elif number == signal.SIGINT and (self._processes == 1 or now - self._since > TWICE):
                raise KeyboardInterrupt

        before = {}
        try:
            for name in ("SIGTERM", "SIGINT", "SIGUSR1"):
                if hasattr(signal, name):  # no SIGUSR1 on Windows
                    before[getattr(signal, name)] = signal.signal(getattr(signal, name), note)
        except ValueError:
            pass  # not in the main thread: Python allows handlers only there, and the caller keeps its own
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def asked(self, *, news: bool = False) -> tuple[bool, bool]:
        """Tell whether any process was asked to stop, and whether any has news for the others.

        All processes call this after each step, and do the same thereafter.
        """
        if self._processes == 1:
            return self.wanted, news
        own = torch.zeros(2, device=self._device)
        for place, value in enumerate((self.wanted, news)):
            if value:  # filled on the device: a copy from the host would wait for the queue of the GPU
                own[place].fill_(1.0)
        asked = mean_over_processes(own)
        if self._async_device:
            # The answer of the step before is there already; the host would have to wait for this one.
            asked, self._asked = self._asked if self._asked is not None else torch.zeros(2), asked
        stop, anything = (asked > 0).tolist()
        return stop, anything

    def leave(self, folder: RunFolder, step: int, steps: int, reporter: Reporter) -> NoReturn:
        """End a run early, after its checkpoint.

        Raises:
            KeyboardInterrupt: Ctrl-C asked for it.
            InterruptedRunError: another signal, one to another process, or the clock asked for it.
        """
        command = f"ssl-wb train '{folder.recipe}' --resume --out '{folder.path}'"
        if self.number == signal.SIGINT:
            reporter.say(f"interrupted at step {step} of {steps}; to go on: {command}")
            raise KeyboardInterrupt
        why = " because --max-hours is over" if self.number is None and self.time_is_up else ""
        raise InterruptedRunError(f"{folder.path}: stopped at step {step} of {steps}{why}", hint=f"to go on: {command}")
