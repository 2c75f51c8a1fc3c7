"""A task as a run may see it while it trains: no clip of a test part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ssl_wb.audio.clip import Clip, ClipSet
from ssl_wb.plugin.evaluator import Split
from ssl_wb.tasks.splits import SEED, draw, hold_out, strata
from ssl_wb.tasks.task import LoadedTask, check_training

__all__ = ["selection"]

#: Share of the clips that are no test clips to report on, where the task names no validation part.
REPORTED = 1 / 3


def selection(task: LoadedTask, most: int) -> LoadedTask:
    """Return the part of a task that may choose a checkpoint.

    The validation part is reported on, or a third of the training clips where the task names none; a tenth of the
    training clips chooses the probe's settings. Of several folds the first is taken: its test clips stay unseen, those
    of the other folds do not, as they are its training clips.

    Args:
        task: the whole task.
        most: clips, at most; drawn evenly from the classes.

    Raises:
        DataError: too few clips are left.
    """
    classes = strata(task.labels)
    split = task.splits[0]
    train, reported = split.train, split.validation
    if split.held_out or not len(reported):
        pool = np.union1d(train, reported)
        reported = pool[draw(classes[pool], REPORTED, np.random.default_rng([SEED, 2]))]
        train = np.setdiff1d(pool, reported)
    share = most / (len(train) + len(reported))
    if share < 1:
        train = _thinned(train, classes, share, 3)
        reported = _thinned(reported, classes, share, 4)
    kept, held = hold_out(train, classes, 0, str(task.clips.source))
    rows = np.union1d(train, reported)
    labels = task.labels[rows]
    places = [np.searchsorted(rows, part).astype(np.int64) for part in (kept, held, reported)]
    divided = Split("validation", places[0], places[1], places[2], held_out=True)
    check_training([divided], labels, task.classes, f"{task.clips.source} while training")
    chosen: list[Clip] = [replace(task.clips[int(row)], id=number) for number, row in enumerate(rows)]
    clips = ClipSet(tuple(chosen), task.clips.source, task.clips.digest)
    return replace(task, clips=clips, labels=labels, splits=(divided,), notes=())


def _thinned(rows: NDArray[np.int64], classes: NDArray[np.int64], share: float, number: int) -> NDArray[np.int64]:
    """Draw a share of ``rows [n]`` by their classes ``[clips]`` or ``[clips, classes]``."""
    return rows[draw(classes[rows], share, np.random.default_rng([SEED, number]))]
