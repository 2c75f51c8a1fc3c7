"""Whether a run's best checkpoint was chosen with test clips of a task, as of folds it cannot be otherwise."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tomli

from ssl_wb.audio.clip import Clip
from ssl_wb.errors import RunFolderError, WorkbenchError
from ssl_wb.runs.folder import RunFolder
from ssl_wb.tasks.task import LoadedTask, load_task
from ssl_wb.tasks.validation_subset import validation_subset

__all__ = ["with_choice_noted"]


def with_choice_noted(run: Path, name: str, tasks: Sequence[LoadedTask]) -> list[LoadedTask]:
    """Note in tasks how many of their test clips a run's checkpoint ``best`` was chosen with.

    A run sees no test clip of a fixed split (:mod:`ssl_wb.tasks.validation_subset`). Of folds every clip is a
    test clip of some fold, so those that chose it are tested, too.

    Args:
        run: the run folder.
        name: of the run in tables.
        tasks: what ``best`` is probed on.

    Raises:
        RunFolderError: the run's resolved recipe cannot be read.
    """
    seen = _chosen_with(run)
    noted = []
    for task in tasks:
        tested = np.unique(np.concatenate([split.test for split in task.splits]))
        both = sum(_key(task.clips[int(row)]) in seen for row in tested) if seen else 0
        if both:
            note = (
                f"the checkpoint 'best' of {name} was chosen by a probe that saw {both} of the {len(tested)} test "
                "clips; report this task from 'last', or choose by another task"
            )
            task = replace(task, notes=(*task.notes, note))
        noted.append(task)
    return noted


def _chosen_with(run: Path) -> set[Hashable]:
    """Return the clips of the probe that chose ``best``: the first of the recipe with ``every``."""
    folder = RunFolder(run)
    if not folder.is_run():
        return set()
    try:
        probes = tomli.loads(folder.resolved.read_text(encoding="utf-8")).get("evaluate", [])
    except (OSError, UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise RunFolderError(
            f"{folder.resolved}: cannot be read ({error})", hint="the run folder was changed"
        ) from error
    first = next((one for one in probes if one.get("every") is not None), None)
    if first is None:
        return set()
    try:
        task = load_task(Path(first["task"]), metric=first.get("metric"))
        return {_key(clip) for clip in validation_subset(task, first["every_clips"]).clips}
    except WorkbenchError:  # moved since: a task of the same clips elsewhere would have other paths; or generated
        return set()


def _key(clip: Clip) -> Hashable:
    """Tell a clip from others, whatever manifest lists it."""
    path = os.path.realpath(clip.path) if isinstance(clip.path, Path) else clip.path.stamp
    return path, clip.start, clip.duration
