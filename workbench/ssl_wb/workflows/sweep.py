"""Train the runs of a sweep and compare them: what ``ssl-wb sweep`` does."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

from ssl_wb.errors import ExitCode, InterruptedRunError, RecipeError, RunFolderError, UsageError, itemise
from ssl_wb.evaluation.run_results import SWEEP, sweep_record
from ssl_wb.files import why_not_writable, write_atomically
from ssl_wb.recipe.load import require_data
from ssl_wb.recipe.tree import shown_path
from ssl_wb.runs.device import best_device
from ssl_wb.runs.folder import RunFolder
from ssl_wb.sweep.cells import Cell, Sweep
from ssl_wb.sweep.drive import Drive, Outcome
from ssl_wb.sweep.executor import Executor, LocalExecutor
from ssl_wb.sweep.load import Changes, load_sweep
from ssl_wb.sweep.state import clear_unstarted, other_recipe, progress_of
from ssl_wb.workflows.compare_runs import RunComparison
from ssl_wb.workflows.preflight import Preflight, preflight
from ssl_wb.workflows.sweep_results import write_results

__all__ = ["SweepResult", "check_cells", "default_sweep_folder", "distinct", "run_sweep"]


def default_sweep_folder(sweep: str | Path) -> Path:
    """Return ``sweeps/NAME`` below the working directory, NAME the sweep's file name."""
    return Path("sweeps") / Path(sweep).stem


@dataclass(frozen=True)
class SweepResult:
    """What became of a sweep.

    Attributes:
        sweep: its runs.
        folder: that holds them.
        outcomes: by run.
        comparison: of the complete runs; None where they have no results to compare.
    """

    sweep: Sweep
    folder: Path
    outcomes: Mapping[str, Outcome]
    comparison: RunComparison | None

    @property
    def exit_code(self) -> int:
        """0 if all runs are complete; that of the first failed one; 75 if some were stopped or are to do."""
        failed = [one.code for one in self.outcomes.values() if one.state == "failed"]
        if failed:
            return failed[0] if failed[0] > 0 else int(ExitCode.UNEXPECTED)
        complete = all(one.state == "complete" for one in self.outcomes.values())
        return int(ExitCode.DONE if complete else ExitCode.RESUMABLE)


# More than fifty lines, most of them the arguments and their description.
def run_sweep(
    name_or_path: str | Path,
    *,
    changes: Changes | None = None,
    out: Path | None = None,
    workers: int = 1,
    budget: float | None = None,
    cpu: bool = False,
    executor: Executor | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> SweepResult:
    """Train every run of a sweep that is not complete, then compare them all.

    Args:
        name_or_path: a sweep file, or the name of a shipped sweep.
        changes: of the command line.
        out: folder of the sweep; ``sweeps/NAME`` when None.
        workers: runs at a time, each in a process of its own.
        budget: hours after which running ones write a checkpoint and end; None for no limit.
        cpu: stay on the CPU where a GPU is at hand.
        executor: where runs are started; processes of this machine unless given.
        say: told what happens, line by line.

    Raises:
        RecipeError: mistakes in the file, or in the recipe of a run; nothing was trained.
        UsageError: the folder holds something else, or runs of other recipes.
        InterruptedRunError: SIGTERM came; running ones wrote checkpoints.
        KeyboardInterrupt: Ctrl-C came; likewise.
    """
    sweep = load_sweep(name_or_path, changes)
    folder = out if out is not None else default_sweep_folder(sweep.path)
    check_cells(sweep, say)
    _check_folder(folder, sweep)
    write_atomically(folder / "sweep.toml", sweep.source)
    write_atomically(folder / SWEEP, json.dumps(sweep.as_json(), indent=2, ensure_ascii=False) + "\n")
    devices = 0 if cpu or best_device().type != "cuda" else torch.cuda.device_count()
    drive = Drive(
        sweep.cells,
        folder,
        executor or LocalExecutor(workers, devices),
        workers,
        ("--cpu",) if cpu else (),
        None if budget is None else budget * 3600,
        say,
    )
    with _term_raises(folder):
        drive.run()
        comparison = write_results(sweep, folder, drive.outcomes, best_device(cpu=cpu), say)
    return SweepResult(sweep, folder, drive.outcomes, comparison)


def distinct(sweep: Sweep) -> list[Cell]:
    """Return the first run of every recipe, seeds aside."""
    found: dict[str, Cell] = {}
    for cell in sweep.cells:
        found.setdefault(cell.group, cell)
    return list(found.values())


def check_cells(sweep: Sweep, say: Callable[[str], None], *, data: bool = True) -> dict[str, Preflight]:
    """Read data and tasks of every recipe of a sweep and plan its model, before the first is trained.

    Args:
        sweep: its runs.
        say: told what happens.
        data: whether each has to have something to train on.

    Returns:
        By group of runs.

    Raises:
        RecipeError: one message for each mistake, with the runs that have it.
    """
    say(f"checking {len(sweep.cells)} runs")
    problems: dict[str, list[str]] = {}
    checked: dict[str, Preflight] = {}
    for cell in distinct(sweep):
        try:
            if data:
                require_data(cell.recipe)
            checked[cell.group] = preflight(cell.recipe)
        except RecipeError as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(cell.group)
    if problems:
        groups = len({cell.group for cell in sweep.cells})
        texts = [
            problem if len(names) == groups else f"{problem} (in {names[0]}{_more(len(names) - 1)})"
            for problem, names in problems.items()
        ]
        raise RecipeError(texts, where=shown_path(sweep.path), hint="--set KEY=VALUE changes a key of all runs")
    return checked


def _more(count: int) -> str:
    return f" and {count} more" if count else ""


def _check_folder(folder: Path, sweep: Sweep) -> None:
    """Refuse a folder that holds something else than runs of this sweep's recipes."""
    if fault := why_not_writable(folder):
        raise UsageError(f"{folder}: cannot be written ({fault})", hint="name another folder with --out")
    if RunFolder(folder).is_run():
        raise RunFolderError(f"{folder}: this is a run, not the folder of a sweep", hint="name another with --out")
    names = {cell.name for cell in sweep.cells}
    if folder.is_dir() and any(folder.iterdir()) and sweep_record(folder) is None:
        strange = next(folder.iterdir()).name
        raise RunFolderError(
            f"{folder}: holds {strange!r} and is no folder of a sweep", hint="name another folder with --out"
        )
    changed = []
    for cell in sweep.cells:
        path = folder / cell.name
        keys = other_recipe(path, cell.recipe)
        if keys:
            texts = ["{} is {} in the run and {} in the sweep".format(one.key, *one.texts()) for one in keys[:3]]
            changed.append(f"{cell.name}: {'; '.join(texts)}{_more(len(keys) - 3) if len(keys) > 3 else ''}")
        elif progress_of(path, probes=0).state.value == "to do":
            clear_unstarted(path)
    if changed:
        raise UsageError(
            itemise(f"{folder}: {len(changed)} of {len(names)} runs were started with another recipe", changed, 5),
            hint="restore the sweep file, or name another folder with --out",
        )


@contextmanager
def _term_raises(folder: Path) -> Iterator[None]:
    """Let SIGTERM end the sweep as Ctrl-C does, with the exit code of a run that can go on."""

    def end(number: int, frame: FrameType | None) -> None:
        raise InterruptedRunError(f"{folder}: the sweep was stopped", hint="the same command goes on with it")

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
