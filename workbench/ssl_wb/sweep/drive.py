"""Trains the runs of a sweep: skips what is complete, resumes what is not, retries once what failed, and goes on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssl_wb.errors import ExitCode
from ssl_wb.runs.folder import RunFolder
from ssl_wb.sweep.cells import Cell
from ssl_wb.sweep.executor import Executor, Job, last_lines
from ssl_wb.sweep.state import State, clear_unstarted, progress_of

__all__ = ["Drive", "Outcome"]

#: Attempts of a run: the first, and once more.
ATTEMPTS = 2
#: Seconds between looks at runs that other processes train.
POLL = 2.0
#: Exit codes of a run that was asked to stop.
STOPPED = (int(ExitCode.RESUMABLE), int(ExitCode.INTERRUPTED))


@dataclass
class Outcome:
    """What became of a run.

    Attributes:
        state: ``complete``, ``failed``, ``stopped`` (can go on) or ``to do``.
        trained: whether this call trained it, or found it complete.
        attempts: how often this call started it.
        code: exit code of the last attempt; negative for the number of a signal that ended it.
        seconds: of all attempts.
        message: last lines of the output of a failed attempt.
    """

    state: str = "to do"
    trained: bool = False
    attempts: int = 0
    code: int = 0
    seconds: float = 0.0
    message: str = ""


@dataclass
class Drive:
    """Trains runs through an executor.

    Args:
        cells: the runs, in the order in which they are started.
        folder: that holds the runs' folders.
        executor: starts them.
        workers: runs at a time.
        flags: further words of ``ssl-wb train``, as ``--cpu``.
        seconds: time after which running ones are stopped, with a checkpoint; None for no limit.
        say: told what happens, line by line.
    """

    cells: Sequence[Cell]
    folder: Path
    executor: Executor
    workers: int = 1
    flags: tuple[str, ...] = ()
    seconds: float | None = None
    say: Callable[[str], None] = print
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    _active: dict[str, tuple[Cell, float]] = field(default_factory=dict)

    def run(self) -> dict[str, Outcome]:
        """Train what is not complete and return what became of every run, by name.

        When this is left by an exception, as KeyboardInterrupt, running ones are asked to stop first.
        """
        self.outcomes = {cell.name: Outcome() for cell in self.cells}
        waiting = deque(self.cells)
        elsewhere: list[Cell] = []
        end = None if self.seconds is None else time.monotonic() + self.seconds
        try:
            while waiting or self._active or elsewhere:
                if end is not None and time.monotonic() >= end:
                    self.say("the time of --budget is used up; running ones write a checkpoint")
                    self._stop()
                    break
                while waiting and len(self._active) < self.workers:
                    self._start(waiting.popleft(), elsewhere)
                if self._active:
                    ended = self.executor.wait(POLL)
                    if ended is not None and self._ended(*ended):
                        waiting.append(self._cell(ended[0].name))  # after all others
                elif elsewhere:
                    time.sleep(POLL)
                if elsewhere and not waiting:
                    waiting.extend(self._left(elsewhere))
        except BaseException:
            self._stop()
            raise
        return self.outcomes

    def _cell(self, name: str) -> Cell:
        return next(cell for cell in self.cells if cell.name == name)

    def _start(self, cell: Cell, elsewhere: list[Cell]) -> None:
        """Start a run, unless it is complete or another process trains it."""
        path, outcome = self.folder / cell.name, self.outcomes[cell.name]
        progress = progress_of(path, probes=len(cell.recipe.evaluators))
        if progress.state is State.COMPLETE:
            outcome.state = "complete"
            return
        if progress.state is State.RUNNING:
            self.say(f"{cell.name}: another process trains it")
            elsewhere.append(cell)
            return
        words = ("train", *self._words(cell, path), "--quiet", "--no-baselines", *self.flags)
        job = Job(cell.name, (*words, "--out", str(path)), self.folder / "logs" / f"{cell.name}.log")
        outcome.attempts += 1
        what = f"goes on at step {progress.step}" if progress.state is State.STARTED and progress.step else "started"
        done = sum(one.state == "complete" for one in self.outcomes.values())
        self.say(f"[{done + 1} of {len(self.cells)}] {cell.name}: {what}")
        self.executor.submit(job)
        self._active[cell.name] = (cell, time.monotonic())

    def _words(self, cell: Cell, path: Path) -> list[str]:
        """Return the recipe and its settings, or what resumes the run."""
        folder = RunFolder(path)
        if folder.is_run():
            return [str(folder.resolved), "--resume"]
        clear_unstarted(path)
        return [str(cell.base), *(word for setting in cell.settings for word in ("--set", setting))]

    def _ended(self, job: Job, code: int) -> bool:
        """Note how a job ended, and return whether it is to be tried again."""
        cell, began = self._active.pop(job.name)
        outcome = self.outcomes[job.name]
        outcome.code, seconds = code, time.monotonic() - began
        outcome.seconds += seconds
        complete = progress_of(self.folder / job.name, probes=len(cell.recipe.evaluators)).state is State.COMPLETE
        if code == 0 and complete:
            outcome.state, outcome.trained, outcome.message = "complete", True, ""
            self.say(f"{job.name}: complete after {seconds:.0f} s")
            return False
        if code in STOPPED:
            outcome.state = "stopped"
            self.say(f"{job.name}: was asked to stop; the same command goes on with it")
            return False
        outcome.message = "\n".join(last_lines(job.log))
        again = outcome.attempts < ATTEMPTS
        outcome.state = "failed"
        self.say(f"{job.name}: failed ({ended_by(code)}){'; it is tried once more, after the others' if again else ''}")
        return again

    def _left(self, elsewhere: list[Cell]) -> list[Cell]:
        """Take out and return the runs that no other process trains any more."""
        free = [
            cell
            for cell in elsewhere
            if progress_of(self.folder / cell.name, probes=len(cell.recipe.evaluators)).state is not State.RUNNING
        ]
        for cell in free:
            elsewhere.remove(cell)
        return free

    def _stop(self) -> None:
        for job, code in self.executor.stop():
            self._ended(job, code)


def ended_by(code: int) -> str:
    """Say how a process ended."""
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"
