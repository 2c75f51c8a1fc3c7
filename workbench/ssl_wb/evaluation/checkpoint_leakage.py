"""Warning about test clips that were used to select a run's best checkpoint, which folds make unavoidable."""

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

__all__ = ["note_leakage"]


def note_leakage(run: Path, name: str, tasks: Sequence[LoadedTask]) -> list[LoadedTask]:
    """Add a note to each task of whose test clips some were used to select the run's checkpoint ``best``.

    With a fixed split no test clip is used (:mod:`ssl_wb.tasks.validation_subset`). With folds every clip is a test
    clip of some fold, so the clips that selected the checkpoint are tested as well.

    Args:
        run: the run folder.
        name: of the run in tables.
        tasks: tasks that ``best`` is evaluated on.

    Returns:
        The tasks, in order.

    Raises:
        RunFolderError: the run's resolved recipe cannot be read.
    """
    selected = _selection_clips(run)
    noted = []
    for task in tasks:
        tested = np.unique(np.concatenate([split.test for split in task.splits]))
        leaked = sum(_key(task.clips[int(row)]) in selected for row in tested) if selected else 0
        if leaked:
            note = (
                f"the checkpoint 'best' of {name} was chosen by a probe that saw {leaked} of the {len(tested)} test "
                "clips; report this task from 'last', or choose by another task"
            )
            task = replace(task, notes=(*task.notes, note))
        noted.append(task)
    return noted


def _selection_clips(run: Path) -> set[Hashable]:
    """Return the clips of the probe that selected ``best``: the recipe's first with ``every``."""
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
        task = load_task(Path(first["task"]), metric=first.get("metric"), allow_leaks=bool(first.get("allow_leaks")))
        return {_key(clip) for clip in validation_subset(task, first["every_clips"]).clips}
    except WorkbenchError:  # a manifest that was moved (the same clips elsewhere would not match), or generated clips
        return set()


def _key(clip: Clip) -> Hashable:
    """Return what identifies a clip, whichever manifest lists it: file, start and duration."""
    path = os.path.realpath(clip.path) if isinstance(clip.path, Path) else clip.path.stamp
    return path, clip.start, clip.duration
