"""Lines of ``metrics.jsonl`` and what the display shows of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from ssl_wb.data.loader import Batch
from ssl_wb.layers.parts import part
from ssl_wb.pretext.model import PretextOutput
from ssl_wb.runs.folder import RunFolder
from ssl_wb.training.health import HealthMonitor
from ssl_wb.training.loop_state import Window
from ssl_wb.training.reporting import Reporter

__all__ = ["MetricsLog"]


class MetricsLog:
    """Writes the figures of logged steps and measures the time since the last of them.

    Args:
        folder: the run's.
        accelerator: whose main process writes, and whose trackers get the figures.
        reporter: shows them.
        monitor: the health rules.
        batch_size: clips of a step over all processes.
        steps: optimiser steps of the run.
    """

    def __init__(
        self,
        folder: RunFolder,
        accelerator: Accelerator,
        reporter: Reporter,
        monitor: HealthMonitor,
        batch_size: int,
        steps: int,
    ) -> None:
        self._folder, self._accelerator = folder, accelerator
        self._reporter, self._monitor = reporter, monitor
        self._batch_size, self._steps = batch_size, steps
        self.restart()

    def restart(self) -> None:
        """Measure from now on."""
        self._waited, self._timed, self._since = 0.0, 0, time.perf_counter()

    def next_of(self, loader: Iterator[Batch]) -> Batch:
        """Wait for the next micro-batch and note how long it took."""
        began = time.perf_counter()
        with part("data"):
            batch = next(loader)
        self._waited += time.perf_counter() - began
        return batch

    def step_done(self) -> None:
        """Note a step."""
        self._timed += 1

    def leave_out(self, seconds: float) -> None:
        """Leave seconds out that are no training, such as those of probes."""
        self._since += seconds

    def write(self, step: int, outputs: Sequence[PretextOutput], window: Window, *, rate: float, norm: float) -> None:
        """Write a line of metrics, check the health rules, and begin the window of losses anew.

        Args:
            step: optimiser steps done.
            outputs: of the step's micro-batches.
            window: losses since the last line.
            rate: learning rate of the step.
            norm: of its gradient, before clipping.
        """
        seconds = max(time.perf_counter() - self._since, 1e-9)
        figures = _means(outputs)
        row: dict[str, Any] = {
            "step": step,
            "samples_seen": step * self._batch_size,
            "loss": window.loss / window.steps,
            "learning_rate": rate,
            "gradient_norm": norm,
            **figures,
        }
        warnings = self._monitor.check(figures, step, self._steps)
        row["health"] = {"ailing": self._monitor.ailing(), "warnings": warnings}
        row["clips_per_second"] = self._timed * self._batch_size / seconds
        row["data_wait_share"] = min(1.0, self._waited / seconds)
        shown = {name: value for name, value in row.items() if isinstance(value, float)}
        if self._accelerator.is_main_process:
            self._folder.append_metrics(row)
            self._accelerator.log(shown, step=step)
        self._reporter.measured(step, shown)
        for warning in warnings:
            self._reporter.say(f"step {step}: {warning}")
        window.loss, window.steps = 0.0, 0
        self.restart()


def _means(outputs: Sequence[PretextOutput]) -> Mapping[str, float]:
    """Return the mean of each figure over micro-batches."""
    metrics: dict[str, list[Tensor | float]] = {}
    for output in outputs:
        for name, value in output.metrics.items():
            metrics.setdefault(name, []).append(value)
    return {name: float(sum(values) / len(values)) for name, values in metrics.items()}
