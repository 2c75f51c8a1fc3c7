"""How far a run of a sweep is, read from its folder: the folders are all that a sweep remembers."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ssl_wb.errors import RunFolderError
from ssl_wb.recipe.differences import Difference, differences
from ssl_wb.recipe.load import LoadedRecipe, load_recipe, resolved
from ssl_wb.runs.checkpoint import find_checkpoint
from ssl_wb.runs.folder import RunFolder
from ssl_wb.runs.lock import find_owner

__all__ = ["Progress", "State", "clear_unstarted", "other_recipe", "progress_of"]

#: What ``train`` writes before a folder is a run; a folder with nothing else holds no work.
BEFORE = {"recipe.toml", "environment.json", "checkpoints", "run.lock"}


class State(StrEnum):
    """How far a run is."""

    ABSENT = "to do"
    STARTED = "started"
    RUNNING = "running"
    COMPLETE = "complete"


@dataclass(frozen=True)
class Progress:
    """State of a run, and its steps as of the last checkpoint; 0 of 0 where there is none."""

    state: State
    step: int = 0
    steps: int = 0


def progress_of(path: Path, *, probes: int) -> Progress:
    """Return how far a run is.

    Args:
        path: its folder, which need not be there.
        probes: with which it ends; it is complete with a result of each.
    """
    folder = RunFolder(path)
    step, steps = _steps(folder)
    if find_owner(folder.lock.path) is not None:
        return Progress(State.RUNNING, step, steps)
    if not folder.is_run():
        return Progress(State.ABSENT)
    done = steps > 0 and step >= steps and _results(folder) >= probes
    return Progress(State.COMPLETE if done else State.STARTED, step, steps)


def _steps(folder: RunFolder) -> tuple[int, int]:
    """Return the steps done and all steps, by the last checkpoint."""
    try:
        checkpoint = find_checkpoint(folder.checkpoints)
        if checkpoint is None:
            return 0, 0
        state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        return int(state["step"]), int(state["data"]["steps"])
    except (OSError, ValueError, LookupError, TypeError, RunFolderError):
        return 0, 0  # damaged: resuming it finds an older checkpoint, or says what is wrong


def _results(folder: RunFolder) -> int:
    """Return how many probes of the run's encoder have a result: one that failed leaves those of the others."""
    try:
        rows = json.loads(folder.results.read_text(encoding="utf-8"))
        return sum(row["role"] == "encoder" for row in rows)
    except (OSError, ValueError, LookupError, TypeError):
        return 0  # not there, or damaged: resuming the run probes it anew


def clear_unstarted(path: Path) -> None:
    """Remove what a run left that was killed before it began to train; nothing else is touched.

    Raises:
        RunFolderError: the folder holds something that is not of such a run.
    """
    if not path.exists() or RunFolder(path).is_run():
        return
    strange = [] if not path.is_dir() else [one.name for one in path.iterdir() if not _is_left_over(one)]
    if strange or not path.is_dir():
        what = f"holds {strange[0]!r}" if strange else "is a file"
        raise RunFolderError(
            f"{path}: {what} and is no run of ssl-wb", hint="move it away, or name another folder with --out"
        )
    shutil.rmtree(path)


def _is_left_over(entry: Path) -> bool:
    if entry.name == "checkpoints":
        return not any(entry.glob("step-*"))
    return entry.name in BEFORE or entry.name.endswith(".part") or entry.name.startswith("run.lock.")


def other_recipe(path: Path, loaded: LoadedRecipe) -> list[Difference]:
    """Return the keys in which a run that was started differs from a recipe, its probes aside."""
    folder = RunFolder(path)
    if not folder.is_run():
        return []
    own = resolved(load_recipe(folder.resolved))
    # A number that is found when a run begins is 'auto' in its recipe.
    return [
        one
        for one in differences(own, resolved(loaded))
        if not one.key.startswith("evaluate") and one.key != "title" and one.right != "auto"
    ]
