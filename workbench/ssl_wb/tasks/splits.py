"""Splits of a task's clips: as its manifest says, or by a stratified draw with a fixed seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.audio.clip import Clip
from ssl_wb.errors import DataError, did_you_mean
from ssl_wb.plugin.evaluator import Split

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
#: A draw of multi-label clips is repeated at most this often until every class is on both sides.
TRIES = 200
#: Most classes that numeric labels are binned into for a stratified draw.
MAX_BINS = 10
#: Seed of every draw. It is no option: a task has the same splits for every encoder, on every machine. Each use adds a
#: number of its own to the seed, so that no two draws are alike.
SEED = 0


def divide(clips: Sequence[Clip], labels: NDArray[Any], where: str) -> tuple[list[Split], list[str]]:
    """Divide clips by their ``split`` column, their ``fold`` column, or by a draw.

    Args:
        clips: the task's clips.
        labels: int64 ``[clips]``, 0 and 1 ``[clips, classes]``, or floats ``[clips]``.
        where: the manifest, for messages.

    Returns:
        The splits, and notes on everything that the manifest did not decide.

    Raises:
        DataError: a column is incomplete, or it cannot be used to divide the clips.
    """
    labels = strata(labels)
    has_split = _is_filled(clips, "split", where)
    has_fold = _is_filled(clips, "fold", where)
    if has_split:
        split, notes = _fixed_split(clips, labels, where)
        if has_fold:
            notes.append("columns 'split' and 'fold': split is used")
        return [split], notes
    if has_fold:
        return _folds(clips, labels, where), ["no validation part: 10 % of the other folds held out"]
    return [_drawn_split(labels, where)], ["no split: a stratified draw, 60 % train, 15 % validation, 25 % test"]


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


def _fixed_split(clips: Sequence[Clip], labels: NDArray[Any], where: str) -> tuple[Split, list[str]]:
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
    kept, held = hold_out(train, labels, 0, where)
    return Split("test", kept, held, test, held_out=True), ["no validation part: 10 % of train held out"]


def _folds(clips: Sequence[Clip], labels: NDArray[Any], where: str) -> list[Split]:
    """Return one split per fold: the fold is tested, and 10 % of the other folds validate."""
    fold_of = np.array([str(clip.fold) for clip in clips])  # [clips]
    # Numbers are sorted by value and stand before words: fold 10 comes after fold 2.
    folds = sorted(set(fold_of.tolist()), key=lambda name: (int(name) if name.isdecimal() else float("inf"), name))
    if len(folds) < 2:
        raise DataError(
            f"{where}: column 'fold' has one fold only, {folds[0]!r}",
            hint="Name at least two folds, or leave the column out for a stratified draw.",
        )
    splits: list[Split] = []
    for number, fold in enumerate(folds):
        train, held = hold_out(np.flatnonzero(fold_of != fold), labels, number, where)
        splits.append(Split(f"fold {fold}", train, held, np.flatnonzero(fold_of == fold), held_out=True))
    return splits


def hold_out(train: Indices, labels: NDArray[Any], number: int, where: str) -> tuple[Indices, Indices]:
    """Divide training clips into those that train and the 10 % that validate.

    Args:
        train: indices of the training clips.
        labels: of all clips, as of :func:`draw`.
        number: of the fold; every fold has a draw of its own.
        where: the manifest, for messages.

    Raises:
        DataError: there are too few clips.
    """
    held = draw(labels[train], HELD_OUT, np.random.default_rng([SEED, number]))
    if not len(held) or len(held) == len(train):
        raise DataError(
            f"{where}: {len(train)} training clips are too few to hold some out for validation",
            hint="Give a validation part in the column 'split', or more clips.",
        )
    return np.delete(train, held), train[held]


def _drawn_split(labels: NDArray[Any], where: str) -> Split:
    """Draw 60 % train, 15 % validation and 25 % test."""
    counts = np.bincount(labels) if labels.ndim == 1 else labels.sum(axis=0)  # [classes]
    if counts.min() < 3:
        raise DataError(
            f"{where}: the smallest class has {int(counts.min())} clips; "
            "a draw into train, validation and test needs 3",
            hint="Divide the clips yourself in a column 'split', or leave that class out.",
        )
    # Validation is drawn from what test leaves, so its share is one of the rest.
    test = draw(labels, TEST, np.random.default_rng([SEED, 0]))
    rest = np.delete(np.arange(len(labels), dtype=np.int64), test)
    held = draw(labels[rest], VALIDATION / (1 - TEST), np.random.default_rng([SEED, 1]))
    return Split("test", np.delete(rest, held), rest[held], test, held_out=True)


def strata(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels to stratify by: numbers, floats ``[n]``, are binned into up to ten classes of about equal size."""
    if labels.ndim == 2 or not np.issubdtype(labels.dtype, np.floating):
        return labels
    # At least about four clips per bin, so that a draw finds some in each.
    bins = min(MAX_BINS, max(2, len(labels) // 4))
    edges = np.unique(np.quantile(labels, np.linspace(0, 1, bins + 1)[1:-1]))
    classes = np.digitize(labels, edges).astype(np.int64)
    # Repeated values can leave bins empty: the others are numbered without gaps.
    return np.unique(classes, return_inverse=True)[1].astype(np.int64)


def draw(labels: NDArray[Any], share: float, generator: np.random.Generator) -> Indices:
    """Draw a share of clips with about the same share of every class.

    With one label per clip, each class gives its own share, and at least one clip if it has two. With several labels,
    the draw is repeated until every class is on both sides; if no draw does that, the best one is taken.

    Args:
        labels: int64 ``[n]`` or 0 and 1 ``[n, classes]``.
        share: of the clips, 0 to 1.
        generator: source of the draw.

    Returns:
        Sorted indices of the clips drawn.
    """
    if labels.ndim == 2:
        return _draw_multi_label(labels, share, generator)
    drawn = []
    for label in np.unique(labels):
        indices = generator.permutation(np.flatnonzero(labels == label))
        # A class of one clip gives none: a class that cannot be trained is worse than one that is not tested.
        count = min(max(1, round(len(indices) * share)), len(indices) - 1)
        drawn.append(indices[:count])
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def _draw_multi_label(labels: NDArray[Any], share: float, generator: np.random.Generator) -> Indices:
    """Draw clips with several labels ``[n, classes]``, every class on both sides wherever possible."""
    count = min(max(1, round(len(labels) * share)), len(labels) - 1)
    best, most = np.zeros(0, dtype=np.int64), -1
    for _ in range(TRIES):
        indices = np.sort(generator.permutation(len(labels))[:count])
        inside = labels[indices].any(axis=0)  # [classes]
        outside = np.delete(labels, indices, axis=0).any(axis=0)  # [classes]
        # A class missing from train is worse than one missing from the part drawn: compared first.
        found = int(outside.sum()) * (labels.shape[1] + 1) + int(inside.sum())
        if found > most:
            best, most = indices, found
        if inside.all() and outside.all():
            break
    return best
