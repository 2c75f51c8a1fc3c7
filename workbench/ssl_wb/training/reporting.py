"""Progress of a run: a live display on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["PlainReporter", "Reporter", "RichReporter", "SilentReporter", "reporter_for"]

log = logging.getLogger("ssl_wb")

#: Seconds between plain lines.
LINE_EVERY = 5.0
#: Seconds without a line after which a step that is not logged gets one, without a loss.
SILENT_FOR = 15.0


class Reporter(Protocol):
    """Shows the progress of a run."""

    def start(self, step: int, steps: int) -> None:
        """Begin at ``step`` of ``steps``."""

    def advance(self, step: int) -> None:
        """Note that ``step`` steps are done."""

    def measured(self, step: int, figures: Mapping[str, float]) -> None:
        """Show the figures of a logged step: ``loss`` and ``clips_per_second`` at least."""

    def probed(self, step: int, figures: Mapping[str, float], *, best: bool) -> None:
        """Show the scores of probes by ``task/evaluator``; ``best`` when they are the best so far."""

    def say(self, text: str) -> None:
        """Show a message that stays on the screen."""

    def close(self) -> None:
        """End the display."""


class SilentReporter:
    """Shows nothing: for all processes but the main one."""

    def start(self, step: int, steps: int) -> None:
        """See :class:`Reporter`."""

    def advance(self, step: int) -> None:
        """See :class:`Reporter`."""

    def measured(self, step: int, figures: Mapping[str, float]) -> None:
        """See :class:`Reporter`."""

    def probed(self, step: int, figures: Mapping[str, float], *, best: bool) -> None:
        """See :class:`Reporter`."""

    def say(self, text: str) -> None:
        """See :class:`Reporter`."""

    def close(self) -> None:
        """See :class:`Reporter`."""


class PlainReporter(SilentReporter):
    """A log line every few seconds, for files and pipes."""

    def start(self, step: int, steps: int) -> None:
        """Keep the start, to estimate the time left."""
        self._first, self._steps = step, steps
        self._began = time.monotonic()
        self._said, self._shown = 0.0, self._began

    def advance(self, step: int) -> None:
        """Log a line without figures where logged steps are minutes apart, as on slow machines."""
        now = time.monotonic()
        if now - self._shown >= SILENT_FOR and step < self._steps:
            self._shown = now
            log.info("step %d/%d  %s left", step, self._steps, self._left(step))

    def measured(self, step: int, figures: Mapping[str, float]) -> None:
        """Log a line, at most one every few seconds but always the last."""
        now = time.monotonic()
        if now - self._said < LINE_EVERY and step < self._steps:
            return
        self._said = self._shown = now
        log.info(
            "step %d/%d  loss %.4f  %.0f clips/s  %s left",
            step,
            self._steps,
            figures["loss"],
            figures["clips_per_second"],
            self._left(step),
        )

    def _left(self, step: int) -> str:
        """Return the time left at the rate until now, as text."""
        passed = time.monotonic() - self._began
        return _clock(passed / max(1, step - self._first) * (self._steps - step))

    def probed(self, step: int, figures: Mapping[str, float], *, best: bool) -> None:
        """Log a line."""
        log.info("step %d/%d  %s", step, self._steps, _probed(figures, best=best))

    def say(self, text: str) -> None:
        """Log a warning."""
        log.warning(text)


class RichReporter(SilentReporter):
    """A live bar with loss, rate and time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )

    def start(self, step: int, steps: int) -> None:
        """Show the bar."""
        self._progress.start()
        self._task = self._progress.add_task("training", total=steps, completed=step, figures="")

    def advance(self, step: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=step)

    def measured(self, step: int, figures: Mapping[str, float]) -> None:
        """Show loss and rate beside the bar."""
        text = f"loss {figures['loss']:.4f}  {figures['clips_per_second']:.0f} clips/s"
        self._progress.update(self._task, completed=step, figures=text)

    def probed(self, step: int, figures: Mapping[str, float], *, best: bool) -> None:
        """Print a line above the bar."""
        self._progress.console.print(f"step {step}  {_probed(figures, best=best)}", highlight=False, markup=False)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(f"warning: {text}", style="yellow", highlight=False)

    def close(self) -> None:
        """Stop the live display; its last state stays on the screen."""
        self._progress.stop()


def _probed(figures: Mapping[str, float], *, best: bool) -> str:
    """Return the scores of probes as text."""
    scores = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
    return f"probe  {scores}{'  best so far' if best else ''}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def reporter_for(*, main_process: bool, quiet: bool = False) -> Reporter:
    """Return a display: none except on the main process, live on a terminal, plain lines otherwise (on stderr)."""
    if not main_process or quiet:
        return SilentReporter()
    console = Console(stderr=True)
    return RichReporter(console) if console.is_terminal else PlainReporter()
