"""The part of a task that may select a checkpoint while a run trains: it has no test clip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ssl_wb.audio.clip import ClipSet
from ssl_wb.errors import DataError
from ssl_wb.plugin.evaluator import Split
from ssl_wb.tasks.draws import SEED, draw, strata
from ssl_wb.tasks.splits import hold_out
from ssl_wb.tasks.task import LoadedTask, check_training_classes

__all__ = ["validation_subset"]

#: Share of train and validation clips that are reported on, where the manifest has no validation part.
REPORTED = 1 / 3


def validation_subset(task: LoadedTask, most: int) -> LoadedTask:
    """Return the part of a task that may select a checkpoint.

    Scores are reported on the validation part, or on a third of the training clips if the manifest has no validation
    part. A tenth of the training clips selects the probe's settings. Of several folds, the first one is used: its test
    clips are not seen. The test clips of the other folds are, because they are training clips of the first.

    Args:
        task: the whole task.
        most: largest number of clips; drawn evenly from the classes.

    Raises:
        DataError: too few clips are left.
    """
    classes, recordings = strata(task.labels, task.recordings), task.recordings
    split = task.splits[0]
    train, reported = split.train, split.validation
    # A held-out validation part is a tenth: too few clips to tell one checkpoint from another.
    if split.held_out or not len(reported):
        pool = np.union1d(train, reported)
        reported = pool[draw(classes[pool], REPORTED, np.random.default_rng([SEED, 2]), recordings[pool])]
        train = np.setdiff1d(pool, reported)
    share = most / (len(train) + len(reported))
    if share < 1:
        train = _thinned(train, classes, share, 3)
        reported = _thinned(reported, classes, share, 4)
    kept, held = hold_out(train, classes, 0, str(task.clips.source), recordings)
    if not len(reported):
        raise DataError(
            f"{task.clips.source}: {len(train)} training clips of {len(np.unique(recordings[train]))} recordings are "
            "too few to probe with while training",
            hint="Give a validation part in the column 'split', or leave 'every' out.",
        )
    indices = np.union1d(train, reported)  # of the whole task, sorted
    labels = task.labels[indices]
    train_part, held_part, reported_part = (
        np.searchsorted(indices, part).astype(np.int64) for part in (kept, held, reported)
    )
    # The reported clips take the place of the test part, because evaluators report on that.
    divided = Split("validation", train_part, held_part, reported_part, held_out=True)
    check_training_classes([divided], labels, task.classes, f"{task.clips.source} while training")
    clips = tuple(replace(task.clips[int(index)], id=number) for number, index in enumerate(indices))
    return replace(
        task,
        clips=ClipSet(clips, task.clips.source, task.clips.digest),
        labels=labels,
        recordings=recordings[indices],
        splits=(divided,),
        notes=(),
    )


def _thinned(indices: NDArray[np.int64], classes: NDArray[np.int64], share: float, number: int) -> NDArray[np.int64]:
    """Draw a share of ``indices [n]``, stratified by ``classes [clips]`` or ``[clips, classes]`` of the whole task."""
    return indices[draw(classes[indices], share, np.random.default_rng([SEED, number]))]
