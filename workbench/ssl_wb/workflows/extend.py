"""A finished run goes on: a new run folder that begins with the last checkpoint of another one."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssl_wb.errors import RunFolderError, UsageError
from ssl_wb.files import written_aside
from ssl_wb.recipe.load import LoadedRecipe, load_recipe, resolved, to_toml
from ssl_wb.runs.checkpoint import check_content, find_checkpoint, read_state
from ssl_wb.runs.folder import RunFolder
from ssl_wb.training.extension import Extension
from ssl_wb.training.schedule import total_steps
from ssl_wb.workflows.resume_check import told_differences

__all__ = ["extend"]

#: What may change: the length, and what changes no number of the run.
MAY_CHANGE = (
    *("train.steps", "train.epochs", "train.samples", "train.log_every", "train.checkpoint_every"),
    *("train.keep_checkpoints", "train.trackers", "train.max_skipped", "data.workers", "data.max_bad"),
)
#: Seconds that the other processes of a run wait for the main one to copy the checkpoint.
COPYING = 600.0


def extend(run: str | Path, overrides: Sequence[str], out: str | Path | None = None) -> Path:
    """Make the folder of a run that goes on with a finished one; :func:`pretrain` resumes it.

    It is there whole or not at all, and is left as it is where it is there already: a job may repeat the command.

    Args:
        run: folder of a finished run; it stays as it is.
        overrides: ``train.steps=N``, or another length; N counts the steps of the finished run, too.
        out: the new folder; ``RUN-N-steps`` beside it when None.

    Returns:
        The new folder.

    Raises:
        RunFolderError: no run, a damaged checkpoint, or the new folder is taken.
        UsageError: the run has not ended, the length is none that is longer, or other values would change.
    """
    source = RunFolder(Path(run))
    source.require_run()
    source.lock.check()
    own, given = load_recipe(source.resolved), load_recipe(source.resolved, overrides)
    _check_changes(source, own, given)
    checkpoint = find_checkpoint(source.checkpoints)
    state = {} if checkpoint is None else read_state(checkpoint)
    if checkpoint is None or state["step"] != state["data"]["steps"]:
        raise UsageError(
            f"{source.path}: the run has not ended", hint="go on with it by --resume; a run that has ended is extended"
        )
    steps = total_steps(given.recipe.train, state["data"]["clips"])
    if steps <= state["step"]:
        raise UsageError(
            f"{source.path}: the run has {state['step']} steps, and --extend is to give it {steps}",
            hint=f"--set train.steps=N, with N above {state['step']}: the steps of both runs together",
        )
    extension = Extension(str(source.path.resolve()), checkpoint.name, state["step"], steps)
    target = RunFolder(Path(out) if out is not None else source.path.with_name(f"{source.path.name}-{steps}-steps"))
    if target.is_run() and Extension.read(target.extended) == extension:
        return target.path
    target.check(resume=False, overwrite=False)
    if int(os.environ.get("RANK", "0")) == 0:
        check_content(checkpoint)
        _copy(source, target, checkpoint, given, extension)
    _wait_for(target)
    return target.path


def _check_changes(source: RunFolder, own: LoadedRecipe, given: LoadedRecipe) -> None:
    """Refuse changes that would make it another run; UsageError names them."""
    changed = told_differences(resolved(own), resolved(given), there="in --set", without=MAY_CHANGE)
    if changed:
        raise UsageError(
            f"{source.path}: an extended run keeps the recipe of the run: {changed}",
            hint="for other settings start a new run with [init] from = RUN",
        )


def _copy(source: RunFolder, target: RunFolder, checkpoint: Path, given: LoadedRecipe, extension: Extension) -> None:
    """Write the new folder: what was recorded until now, the last checkpoint and the best one, the longer recipe."""
    if target.path.is_dir():
        shutil.rmtree(target.path)  # empty, or left by a start that was killed
    with written_aside(target.path) as aside:
        new = RunFolder(aside)
        new.checkpoints.mkdir(parents=True)
        for name in ("recipe", "statistics", "data", "initial", "metrics", "skipped", "unreadable"):
            if getattr(source, name).is_file():
                shutil.copyfile(getattr(source, name), getattr(new, name))
        for pointer in ("last", "best"):
            kept = find_checkpoint(source.checkpoints, pointer)
            if kept is not None:
                (new.checkpoints / pointer).write_text(kept.name + "\n", encoding="utf-8")
                shutil.copytree(kept, new.checkpoints / kept.name, dirs_exist_ok=True)
        environment: dict[str, Any] = json.loads(source.environment.read_text(encoding="utf-8"))
        environment["extended"] = extension.as_json()
        new.write_json(new.environment, environment)
        new.write_json(new.extended, extension.as_json())
        new.resolved.write_text(to_toml(resolved(given)), encoding="utf-8")


def _wait_for(target: RunFolder) -> None:
    until = time.monotonic() + COPYING
    while not target.is_run():
        if time.monotonic() > until:
            raise RunFolderError(f"{target.path}: the main process did not write it", hint="see its message")
        time.sleep(0.2)
