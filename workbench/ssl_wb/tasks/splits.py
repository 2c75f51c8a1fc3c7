"""Dividing a task's clips: as its manifest says, or by a fixed, stratified draw that the notes own up to."""

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

#: Words of the ``split`` column and the part they mean.
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
#: Share of the training clips held out to choose with, where the manifest names none (EVAR's).
HELD_OUT = 0.10
#: Shares of validation and test where the manifest divides nothing; the rest trains.
UNDIVIDED = (0.15, 0.25)
#: Draws of several labels are repeated so often, at most, until every class is on both sides.
TRIES = 200
#: Classes that numbers are put into to be drawn from evenly, at most.
STRATA = 10
#: Seed of every draw: a task is divided the same way for every encoder, on every machine.
SEED = 0


def divide(clips: Sequence[Clip], labels: NDArray[Any], where: str) -> tuple[list[Split], list[str]]:
    """Divide clips by their ``split`` column, their ``fold`` column, or by a draw.

    Args:
        clips: the task's clips.
        labels: int64 ``[clips]``, 0 and 1 ``[clips, classes]``, or floats ``[clips]``.
        where: the manifest, for messages.

    Returns:
        The splits, and notes on what was not as the manifest says.

    Raises:
        DataError: the columns are incomplete or do not divide.
    """
    labels = strata(labels)
    by_split = _present(clips, "split", where)
    by_fold = _present(clips, "fold", where)
    if by_split:
        split, notes = _fixed(clips, labels, where)
        if by_fold:
            notes.append("columns 'split' and 'fold': split is used")
        return [split], notes
    if by_fold:
        return _folds(clips, labels, where), ["no validation part: 10 % of the other folds held out"]
    return [_drawn(labels, where)], ["no split: a stratified draw, 60 % train, 15 % validation, 25 % test"]


def _present(clips: Sequence[Clip], column: str, where: str) -> bool:
    """Whether a column is filled in; DataError where only some lines have it."""
    given = [getattr(clip, column) is not None for clip in clips]
    if any(given) and not all(given):
        first = clips[given.index(False)].path.name
        raise DataError(
            f"{where}: column {column!r} is empty for {given.count(False)} of {len(given)} clips, "
            f"the first being {first}",
            hint=f"Fill in {column!r} on every line, or leave the column out.",
        )
    return any(given)


def _fixed(clips: Sequence[Clip], labels: NDArray[Any], where: str) -> tuple[Split, list[str]]:
    """One split, as the manifest says; without a validation part, some of train is held out."""
    rows: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for index, clip in enumerate(clips):
        word = str(clip.split).strip().lower()
        if word not in PARTS:
            raise DataError(
                f"{where}: split {clip.split!r} of {clip.path.name} is not known{did_you_mean(word, PARTS)}",
                hint="Use train, val (or valid, validation, dev) and test.",
            )
        rows[PARTS[word]].append(index)
    for part in ("train", "test"):
        if not rows[part]:
            raise DataError(
                f"{where}: column 'split' names no {part} clips",
                hint="Mark some clips as train and some as test, or leave the column out for a stratified draw.",
            )
    train, test = (np.array(rows[part], dtype=np.int64) for part in ("train", "test"))
    if rows["validation"]:
        return Split("test", train, np.array(rows["validation"], dtype=np.int64), test), []
    kept, held = hold_out(train, labels, 0, where)
    return Split("test", kept, held, test, held_out=True), ["no validation part: 10 % of train held out"]


def _folds(clips: Sequence[Clip], labels: NDArray[Any], where: str) -> list[Split]:
    """Test every fold once; 10 % of the other folds validate."""
    names = np.array([str(clip.fold) for clip in clips])
    folds = sorted(set(names.tolist()), key=_natural)
    if len(folds) < 2:
        raise DataError(
            f"{where}: column 'fold' has one fold only, {folds[0]!r}",
            hint="Name at least two folds, or leave the column out for a stratified draw.",
        )
    splits: list[Split] = []
    for number, fold in enumerate(folds):
        train, held = hold_out(np.flatnonzero(names != fold), labels, number, where)
        splits.append(Split(f"fold {fold}", train, held, np.flatnonzero(names == fold), held_out=True))
    return splits


def _natural(name: str) -> tuple[int, str]:
    """Sort key: numbers by value, then words."""
    return (int(name), name) if name.isdecimal() else (2**63, name)


def hold_out(rows: Indices, labels: NDArray[Any], number: int, where: str) -> tuple[Indices, Indices]:
    """Divide training clips into those that train and the 10 % that validate."""
    held = draw(labels[rows], HELD_OUT, np.random.default_rng([SEED, number]))
    if not len(held) or len(held) == len(rows):
        raise DataError(
            f"{where}: {len(rows)} training clips are too few to hold some out for validation",
            hint="Give a validation part in the column 'split', or more clips.",
        )
    return np.delete(rows, held), rows[held]


def _drawn(labels: NDArray[Any], where: str) -> Split:
    """Draw 60 % train, 15 % validation and 25 % test."""
    rows = np.arange(len(labels), dtype=np.int64)
    counts = np.bincount(labels) if labels.ndim == 1 else labels.sum(axis=0)
    if counts.min() < 3:
        raise DataError(
            f"{where}: the smallest class has {int(counts.min())} clips; "
            "a draw into train, validation and test needs 3",
            hint="Divide the clips yourself in a column 'split', or leave that class out.",
        )
    validation, test = UNDIVIDED
    tested = draw(labels, test, np.random.default_rng([SEED, 0]))
    rest = np.delete(rows, tested)
    held = draw(labels[rest], validation / (1 - test), np.random.default_rng([SEED, 1]))
    return Split("test", np.delete(rest, held), rest[held], rows[tested], held_out=True)


def strata(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels to stratify by: numbers, floats ``[n]``, become up to ten classes of about equal size."""
    if labels.ndim == 2 or not np.issubdtype(labels.dtype, np.floating):
        return labels
    edges = np.unique(np.quantile(labels, np.linspace(0, 1, min(STRATA, max(2, len(labels) // 4)) + 1)[1:-1]))
    classes = np.digitize(labels, edges).astype(np.int64)
    return np.unique(classes, return_inverse=True)[1].astype(np.int64)


def draw(labels: NDArray[Any], share: float, generator: np.random.Generator) -> Indices:
    """Draw a share of clips with about the same share of every class.

    With one label, each class gives its own share, at least one clip if it has two. With several labels, the
    draw is repeated until every class is on both sides; where that cannot be, the best of the draws is taken.

    Args:
        labels: int64 ``[n]`` or 0 and 1 ``[n, classes]``.
        share: of the clips, 0 to 1.
        generator: source of the draw.

    Returns:
        Sorted indices of the clips drawn.
    """
    if labels.ndim == 2:
        return _draw_several(labels, share, generator)
    drawn = []
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        count = min(max(1, round(len(rows) * share)), len(rows) - 1)
        drawn.append(rows[:count])
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def _draw_several(labels: NDArray[Any], share: float, generator: np.random.Generator) -> Indices:
    """Draw clips with several labels ``[n, classes]``, every class on both sides wherever possible."""
    count = min(max(1, round(len(labels) * share)), len(labels) - 1)
    best, most = np.zeros(0, dtype=np.int64), -1
    for _ in range(TRIES):
        rows = np.sort(generator.permutation(len(labels))[:count])
        inside = labels[rows].any(axis=0)  # [classes]
        outside = np.delete(labels, rows, axis=0).any(axis=0)  # [classes]
        # Training without a class is worse than validating without it.
        found = int(outside.sum()) * (labels.shape[1] + 1) + int(inside.sum())
        if found > most:
            best, most = rows, found
        if inside.all() and outside.all():
            break
    return best
