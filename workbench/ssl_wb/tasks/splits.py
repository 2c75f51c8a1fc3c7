"""Splits of a task's clips: as its manifest says, or by a stratified draw; each recording is on one side only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.audio.clip import Clip
from ssl_wb.errors import DataError, did_you_mean
from ssl_wb.plugin.evaluator import Split
from ssl_wb.tasks.draws import SEED, draw, strata
from ssl_wb.tasks.recordings import composed

__all__ = ["SEED", "divide", "draw", "hold_out", "strata"]

Indices = NDArray[np.int64]

#: Values of the column ``split`` and the part that each means.
PARTS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
}
#: Share of the training clips held out for validation where the manifest has no validation part, as in EVAR.
HELD_OUT = 0.10
#: Shares of validation and test where the manifest has no split; the rest is train.
VALIDATION, TEST = 0.15, 0.25
#: Recordings named in a message; the rest is only counted.
SHOWN = 5
LEAK_HINT = (
    "Put all clips of a recording on one side, or allow it with --allow-leaks (allow_leaks = true in a recipe or in "
    "Python): scores are then too high, because test clips resemble training clips."
)


def divide(
    clips: Sequence[Clip],
    labels: NDArray[Any],
    where: str,
    recordings: Indices | None = None,
    *,
    allow_leaks: bool = False,
) -> tuple[list[Split], list[str]]:
    """Divide clips by their ``split`` column, their ``fold`` column, or by a draw.

    Args:
        clips: the task's clips.
        labels: int64 ``[clips]``, 0 and 1 ``[clips, classes]``, or floats ``[clips]``.
        where: the manifest, for messages.
        recordings: int64 ``[clips]``, which recording each clip is of; each of its own unless given.
        allow_leaks: accept recordings on both sides, with a note, and draw clips as if each were of its own.

    Returns:
        The splits, and notes on everything that the manifest did not decide.

    Raises:
        DataError: a column is incomplete, it cannot be used to divide the clips, or it puts clips of one recording on
            both sides.
    """
    recordings = np.arange(len(clips), dtype=np.int64) if recordings is None else recordings
    together = np.arange(len(clips), dtype=np.int64) if allow_leaks else recordings
    splits, notes = _divided(clips, strata(labels, together), where, together)
    shared = _shared_recordings(splits, recordings)
    if len(shared):
        what = f"{len(shared)} of {len(np.unique(recordings))} recordings have clips on both sides of a split"
        if not allow_leaks:
            first = [clips[int(np.flatnonzero(recordings == one)[0])] for one in shared[:SHOWN]]
            names = ", ".join(clip.group or clip.path.name for clip in first)
            more = f" and {len(shared) - SHOWN} more" if len(shared) > SHOWN else ""
            raise DataError(f"{where}: {what}: {names}{more}", hint=LEAK_HINT)
        notes.append(f"{what}, which was allowed: scores are too high")
    elif (count := len(np.unique(recordings))) < len(clips):
        notes.append(f"{len(clips)} clips are of {count} recordings; clips of one recording are never on both sides")
    return splits, notes


def _divided(
    clips: Sequence[Clip], labels: NDArray[Any], where: str, recordings: Indices
) -> tuple[list[Split], list[str]]:
    """Return the splits and their notes; draws keep ``recordings`` together, columns are taken as they are."""
    has_split = _is_filled(clips, "split", where)
    has_fold = _is_filled(clips, "fold", where)
    if has_split:
        split, notes = _fixed_split(clips, labels, where, recordings)
        if has_fold:
            notes.append("columns 'split' and 'fold': split is used")
        return [split], notes
    if has_fold:
        return _folds(clips, labels, where, recordings), ["no validation part: 10 % of the other folds held out"]
    return [_drawn_split(labels, where, recordings)], [
        "no split: a stratified draw, 60 % train, 15 % validation, 25 % test"
    ]


def _shared_recordings(splits: Sequence[Split], recordings: Indices) -> Indices:
    """Return the recordings that have clips in two parts of a split, in order of their first clip."""
    found = [np.zeros(0, dtype=np.int64)]
    for split in splits:
        parts = [np.unique(recordings[part]) for part in (split.train, split.validation, split.test)]
        names, parts_of_each = np.unique(np.concatenate(parts), return_counts=True)
        found.append(names[parts_of_each > 1])
    return np.unique(np.concatenate(found))


def _is_filled(clips: Sequence[Clip], column: str, where: str) -> bool:
    """Whether every clip has a value in a column; DataError where only some have one."""
    given = [getattr(clip, column) is not None for clip in clips]
    if any(given) and not all(given):
        first = clips[given.index(False)].path.name
        raise DataError(
            f"{where}: column {column!r} is empty for {given.count(False)} of {len(given)} clips, "
            f"the first being {first}",
            hint=f"Fill in {column!r} on every line, or leave the column out.",
        )
    return any(given)


def _fixed_split(
    clips: Sequence[Clip], labels: NDArray[Any], where: str, recordings: Indices
) -> tuple[Split, list[str]]:
    """Return the manifest's own split; without a validation part, part of train is held out."""
    indices: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for index, clip in enumerate(clips):
        word = str(clip.split).strip().lower()
        if word not in PARTS:
            raise DataError(
                f"{where}: split {clip.split!r} of {clip.path.name} is not known{did_you_mean(word, PARTS)}",
                hint="Use train, val (or valid, validation, dev) and test.",
            )
        indices[PARTS[word]].append(index)
    for part in ("train", "test"):
        if not indices[part]:
            raise DataError(
                f"{where}: column 'split' names no {part} clips",
                hint="Mark some clips as train and some as test, or leave the column out for a stratified draw.",
            )
    train, validation, test = (np.array(part, dtype=np.int64) for part in indices.values())
    if len(validation):
        return Split("test", train, validation, test), []
    kept, held = hold_out(train, labels, 0, where, recordings)
    return Split("test", kept, held, test, held_out=True), ["no validation part: 10 % of train held out"]


def _folds(clips: Sequence[Clip], labels: NDArray[Any], where: str, recordings: Indices) -> list[Split]:
    """Return one split per fold: the fold is tested, and 10 % of the other folds validate."""
    fold_of = np.array([composed(str(clip.fold)) for clip in clips])  # [clips]
    # Numbers are sorted by value and stand before words: fold 10 comes after fold 2.
    folds = sorted(set(fold_of.tolist()), key=lambda name: (int(name) if name.isdecimal() else float("inf"), name))
    if len(folds) < 2:
        raise DataError(
            f"{where}: column 'fold' has one fold only, {folds[0]!r}",
            hint="Name at least two folds, or leave the column out for a stratified draw.",
        )
    splits: list[Split] = []
    for number, fold in enumerate(folds):
        train, held = hold_out(np.flatnonzero(fold_of != fold), labels, number, where, recordings)
        splits.append(Split(f"fold {fold}", train, held, np.flatnonzero(fold_of == fold), held_out=True))
    return splits


def hold_out(
    train: Indices, labels: NDArray[Any], number: int, where: str, recordings: Indices | None = None
) -> tuple[Indices, Indices]:
    """Divide training clips into those that train and the 10 % that validate.

    Args:
        train: indices of the training clips.
        labels: of all clips, as of :func:`draw`.
        number: of the fold; every fold has a draw of its own.
        where: the manifest, for messages.
        recordings: of all clips; each clip is of its own unless given.

    Raises:
        DataError: there are too few clips or recordings.
    """
    together = None if recordings is None else recordings[train]
    held = draw(labels[train], HELD_OUT, np.random.default_rng([SEED, number]), together)
    if not len(held) or len(held) == len(train):
        of = "" if together is None or len(np.unique(together)) == len(train) else _of_recordings(together)
        raise DataError(
            f"{where}: {len(train)} training clips{of} are too few to hold some out for validation",
            hint="Give a validation part in the column 'split', or more clips."
            + (" Clips of one recording stay together unless --allow-leaks is given." if of else ""),
        )
    return np.delete(train, held), train[held]


def _of_recordings(recordings: Indices) -> str:
    count = len(np.unique(recordings))
    return f" of {count} recording{'' if count == 1 else 's'}"


def _drawn_split(labels: NDArray[Any], where: str, recordings: Indices) -> Split:
    """Draw 60 % train, 15 % validation and 25 % test.

    A rare class of several stays in train, and results say which classes have no test clip. With one class per clip,
    each class must have a clip for each part.
    """
    if labels.ndim == 1:
        counts = np.array([len(np.unique(recordings[labels == label])) for label in np.unique(labels)])  # [classes]
        if counts.min() < 3:
            shared = len(np.unique(recordings)) < len(recordings)
            few = f"{counts.min()} clips" if not shared else f"clips of {counts.min()} recordings"
            raise DataError(
                f"{where}: the smallest class has {few}; a draw into train, validation and test needs 3",
                hint="Divide the clips yourself in a column 'split', or leave that class out."
                + (" Clips of one recording stay together unless --allow-leaks is given." if shared else ""),
            )
    # Validation is drawn from what test leaves, so its share is one of the rest.
    test = draw(labels, TEST, np.random.default_rng([SEED, 0]), recordings)
    rest = np.delete(np.arange(len(labels), dtype=np.int64), test)
    held = draw(labels[rest], VALIDATION / (1 - TEST), np.random.default_rng([SEED, 1]), recordings[rest])
    return Split("test", np.delete(rest, held), rest[held], test, held_out=True)
