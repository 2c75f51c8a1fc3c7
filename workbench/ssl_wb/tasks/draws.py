"""Stratified draws of clips, with a fixed seed; all clips of a recording are drawn together."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SEED", "draw", "strata"]

Indices = NDArray[np.int64]

#: Most classes that numeric labels are binned into for a stratified draw.
MAX_BINS = 10
#: Seed of every draw. It is no option: a task has the same splits for every encoder, on every machine. Each use adds a
#: number of its own to the seed, so that no two draws are alike.
SEED = 0
#: Clips times classes up to which several labels are drawn by iterative stratification. It takes time with their
#: product times the classes (10 s at this size). In larger sets each class has enough clips for a plain draw.
MAX_CELLS = 12_000_000


def strata(labels: NDArray[Any], recordings: Indices | None = None) -> NDArray[Any]:
    """Return labels to stratify by: numbers, floats ``[n]``, are binned into up to ten classes of about equal size."""
    if labels.ndim == 2 or not np.issubdtype(labels.dtype, np.floating):
        return labels
    # At least about four clips (or recordings) per bin, so that a draw finds some in each.
    count = len(labels) if recordings is None else len(np.unique(recordings))
    bins = min(MAX_BINS, max(2, count // 4))
    edges = np.unique(np.quantile(labels, np.linspace(0, 1, bins + 1)[1:-1]))
    classes = np.digitize(labels, edges).astype(np.int64)
    # Repeated values can leave bins empty: the others are numbered without gaps.
    return np.unique(classes, return_inverse=True)[1].astype(np.int64)


def draw(
    labels: NDArray[Any], share: float, generator: np.random.Generator, recordings: Indices | None = None
) -> Indices:
    """Draw a share of clips with about the same share of every class.

    Every class keeps a clip that is not drawn, and has one that is drawn if it has two (clips, or recordings where
    clips share them). With one label per clip, each class gives its own share; with several, the draw is by iterative
    stratification (Sechidis et al., ECML 2011). Where clips share recordings, whole recordings are drawn.

    Args:
        labels: int64 ``[n]`` or 0 and 1 ``[n, classes]``.
        share: of the clips, 0 to 1.
        generator: source of the draw.
        recordings: int64 ``[n]``, which recording each clip is of; each of its own unless given.

    Returns:
        Sorted indices of the clips drawn.
    """
    if recordings is not None and len(np.unique(recordings)) < len(labels):
        return _draw_recordings(labels, share, generator, recordings)
    if labels.ndim == 2:
        return np.flatnonzero(_draw_multi_label(labels > 0, share, generator))
    drawn = []
    for label in np.unique(labels):
        indices = generator.permutation(np.flatnonzero(labels == label))
        # A class of one clip gives none: a class that cannot be trained is worse than one that is not tested.
        count = min(max(1, round(len(indices) * share)), len(indices) - 1)
        drawn.append(indices[:count])
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def _draw_recordings(
    labels: NDArray[Any], share: float, generator: np.random.Generator, recordings: Indices
) -> Indices:
    """Draw whole recordings, about a share of the clips, by scikit-learn's stratified folds of groups."""
    number = np.unique(recordings, return_inverse=True)[1]  # [n], recordings counted from 0
    one_hot = labels > 0 if labels.ndim == 2 else np.eye(labels.max(initial=0) + 1, dtype=bool)[labels]  # [n, classes]
    has = np.zeros((number.max() + 1, one_hot.shape[1]), dtype=bool)  # [recordings, classes]
    np.logical_or.at(has, number, one_hot)
    if len(has) < 2:
        return np.zeros(0, dtype=np.int64)
    if labels.ndim == 2:
        inside = _draw_multi_label(has, share, generator)
    else:
        inside = np.zeros(len(has), dtype=bool)
        inside[number[_best_fold(labels, share, generator, number, has)]] = True
        _keep_classes(inside, has, np.bincount(number))
    return np.flatnonzero(inside[number])


def _best_fold(
    labels: Indices, share: float, generator: np.random.Generator, number: Indices, has: NDArray[np.bool_]
) -> Indices:
    """Return the clips of the fold of about ``share`` that leaves most classes to the others and has most itself."""
    from sklearn.model_selection import StratifiedGroupKFold

    # No more folds than recordings, nor than the largest class has clips: scikit-learn refuses those.
    folds = max(2, min(round(1 / share), len(has), int(np.bincount(labels).max())))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=int(generator.integers(2**31)))
    best: tuple[tuple[int, int, float], Indices] | None = None
    with warnings.catch_warnings():
        # It warns of classes with fewer clips than folds; `_keep_classes` sees to those.
        warnings.simplefilter("ignore", UserWarning)
        for rest, fold in splitter.split(labels, labels, number):
            if len(fold) and len(rest):
                fit = len(np.unique(labels[rest])), len(np.unique(labels[fold])), -abs(len(fold) - share * len(labels))
                if best is None or fit > best[0]:
                    best = fit, fold
    assert best is not None  # two recordings fill two folds
    return best[1]


def _draw_multi_label(has: NDArray[np.bool_], share: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Draw rows ``[n, classes]`` by iterative stratification; returns bool ``[n]``."""
    from iterstrat.ml_stratifiers import IterativeStratification

    count = min(max(1, round(len(has) * share)), len(has) - 1)
    inside = np.zeros(len(has), dtype=bool)
    if has.size <= MAX_CELLS:
        random = np.random.RandomState(int(generator.integers(2**31)))  # what the library takes
        inside = IterativeStratification(has, np.array([1 - share, share]), random) == 1
    else:
        inside[generator.permutation(len(has))[:count]] = True
    sizes = np.ones(len(has), dtype=np.int64)
    _keep_classes(inside, has, sizes)
    # Iterative stratification gives each class its share, and the whole by a few clips more or less.
    for row in generator.permutation(len(has)):
        excess = int(inside.sum()) - count
        if excess == 0:
            break
        # A row moves only if each of its classes stays on the side that it leaves.
        if inside[row] == (excess > 0) and (has[inside == inside[row]].sum(axis=0)[has[row]] > 1).all():
            inside[row] = not inside[row]
    return inside


def _keep_classes(inside: NDArray[np.bool_], has: NDArray[np.bool_], sizes: Indices) -> None:
    """Move rows between the two sides, in place, until every class is outside and, where it has two rows, inside.

    Args:
        inside: whether a row is drawn, bool ``[n]``.
        has: whether a row has a class, ``[n, classes]``.
        sizes: clips of each row, ``[n]``; of several rows that would do, the smallest moves.
    """
    outside = has[~inside].sum(axis=0)  # [classes], rows of each class that are not drawn
    for label in np.flatnonzero((outside == 0) & has.any(axis=0)):
        if outside[label] == 0:  # the row moved for an earlier class may have brought it back
            rows = np.flatnonzero(has[:, label] & inside)
            row = rows[sizes[rows].argmin()]
            inside[row] = False
            outside += has[row]
    drawn = has[inside].sum(axis=0)  # [classes]
    for label in np.flatnonzero((drawn == 0) & (outside > 1)):
        if drawn[label]:
            continue
        rows = np.flatnonzero(has[:, label] & ~inside)
        rows = rows[[bool((outside[has[row]] > 1).all()) for row in rows]]
        if len(rows):
            row = rows[sizes[rows].argmin()]
            inside[row] = True
            outside -= has[row]
            drawn += has[row]
