"""What the bundled probes share: accuracy, macro mAP, bootstrap intervals, and the result made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssl_wb.api import ProbeTask, Result, Split

__all__ = ["SplitScores", "average_precision", "correct", "metric_of", "score", "summarise"]

Floats = NDArray[np.float64]

#: Resamples that are drawn together; bounds the memory of a bootstrap.
CHUNK = 100
#: Resamples of mAP, at least; one costs a sorted pass over every class, so fewer are drawn than of accuracy.
MAP_RESAMPLES = 200
#: Seed of every bootstrap: the same scores give the same interval.
BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class SplitScores:
    """What a probe says about the test clips of one split.

    Attributes:
        split: the split.
        scores: float ``[seeds, test clips, classes]``, larger is likelier.
    """

    split: Split
    scores: NDArray[Any]


def metric_of(labels: NDArray[Any]) -> Literal["accuracy", "mAP"]:
    """Return the metric of labels ``[clips]`` (accuracy) or ``[clips, classes]`` (macro mAP)."""
    return "mAP" if labels.ndim == 2 else "accuracy"


def correct(labels: NDArray[Any], scores: NDArray[Any]) -> Floats:
    """Return 1.0 where the class with the largest score is the label.

    Args:
        labels: int ``[n]``.
        scores: ``[..., n, classes]``; of equal scores the first class counts.
    """
    return np.asarray(scores.argmax(axis=-1) == labels, dtype=np.float64)  # [..., n]


def average_precision(labels: NDArray[Any], scores: NDArray[Any], weights: Floats | None = None) -> Floats:
    """Average precision of one class, as scikit-learn defines it: sum over n of (R_n - R_{n-1}) P_n.

    Args:
        labels: 0 or 1, ``[n]``.
        scores: ``[n]``; clips of equal score enter together, at the same threshold.
        weights: how often each clip counts, ``[resamples, n]``; once when None.

    Returns:
        ``[resamples]`` (one without weights); NaN where no positive clip counts.
    """
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]  # [n]
    last = np.searchsorted(-falling, -falling, side="right") - 1  # [n], last clip of each clip's threshold
    counts = np.ones((1, len(order))) if weights is None else weights[:, order]  # [resamples, n]
    positives = counts * labels[order]  # [resamples, n]
    found = positives.cumsum(axis=1)[:, last]  # [resamples, n]
    taken = counts.cumsum(axis=1)[:, last]  # [resamples, n]
    precision = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
    total = positives.sum(axis=1)  # [resamples]
    summed = (positives * precision).sum(axis=1)
    return _ratio(summed, total)


def _ratio(part: Floats, whole: NDArray[Any]) -> Floats:
    """Divide elementwise; NaN where there is nothing to divide by."""
    return np.asarray(np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0))


def _macro(labels: NDArray[Any], scores: NDArray[Any], weights: Floats | None = None) -> Floats:
    """Mean over classes with positives of labels and scores ``[n, classes]``; ``[resamples]``."""
    columns = [
        average_precision(labels[:, c], scores[:, c], weights) for c in range(labels.shape[1]) if labels[:, c].any()
    ]
    if not columns:
        return np.full(1 if weights is None else len(weights), np.nan)
    stacked = np.stack(columns)  # [classes, resamples]
    known = ~np.isnan(stacked)
    counts = known.sum(axis=0)
    summed = np.where(known, stacked, 0.0).sum(axis=0)
    return _ratio(summed, counts)


def score(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    """Return accuracy or macro mAP.

    Args:
        labels: int ``[n]`` (single label) or 0 and 1 ``[n, classes]``; no class without positives counts.
        scores: ``[n, classes]``.
    """
    if metric_of(labels) == "accuracy":
        return float(correct(labels, scores).mean())
    return float(_macro(labels, scores)[0])


def _resampled(statistic: Callable[[Floats], Floats], clips: int, resamples: int, seed: int) -> Floats:
    """Compute a statistic of weights ``[r, clips]`` on bootstrap resamples, ``[resamples]``."""
    generator = np.random.default_rng([BOOTSTRAP_SEED, seed])
    parts = []
    for first in range(0, resamples, CHUNK):
        draws = min(CHUNK, resamples - first)
        weights = generator.multinomial(clips, np.full(clips, 1.0 / clips), size=draws).astype(np.float64)
        parts.append(statistic(weights))
    return np.concatenate(parts)


def _means(labels: NDArray[Any], scores: NDArray[Any], weights: Floats) -> Floats:
    """Score averaged over seeds of ``[S, n, classes]``, clips counted ``weights [r, n]`` times; ``[r]``."""
    if metric_of(labels) == "accuracy":
        per_clip = correct(labels, scores).mean(axis=0)  # [n]
        return np.asarray(weights @ per_clip / weights.sum(axis=1))
    return np.asarray(np.mean([_macro(labels, one, weights) for one in scores], axis=0))


def _interval(labels: NDArray[Any], found: Sequence[SplitScores], resamples: int) -> tuple[float, float]:
    """95 % percentile bootstrap over test clips, within each split, of the mean over seeds and splits."""
    if metric_of(labels) == "mAP":
        resamples = max(MAP_RESAMPLES, resamples // 5)
    draws = []
    for number, part in enumerate(found):
        statistic = partial(_means, labels[part.split.test], part.scores)
        draws.append(_resampled(statistic, len(part.split.test), resamples, number))
    means = np.stack(draws)  # [splits, resamples]
    means = means[:, ~np.isnan(means).any(axis=0)].mean(axis=0)  # a resample may hold no positive clip at all
    low, high = np.percentile(means, [2.5, 97.5]) if means.size else (np.nan, np.nan)
    return (float(low), float(high))


def _per_clip(labels: NDArray[Any], found: Sequence[SplitScores]) -> NDArray[np.float32] | None:
    """Share of seeds in which each clip was right, NaN where never tested; None for several labels."""
    if metric_of(labels) == "mAP":
        return None
    values = np.full(len(labels), np.nan, dtype=np.float32)  # [clips]
    for part in found:
        values[part.split.test] = correct(labels[part.split.test], part.scores).mean(axis=0)
    return values


def _notes(task: ProbeTask, found: Sequence[SplitScores]) -> tuple[str, ...]:
    """Return the task's notes and, for mAP, the classes left out."""
    notes = list(task.notes)
    if task.multi_label:
        for part in found:
            positives = np.atleast_1d(task.labels[part.split.test].any(axis=0))  # [classes]
            missing = [name for name, there in zip(task.classes, positives, strict=True) if not there]
            if missing:
                shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
                notes.append(
                    f"{part.split.name}: {len(missing)} of {len(task.classes)} classes have no positive "
                    f"test clip and are left out of mAP ({shown})"
                )
    return tuple(notes)


def summarise(
    task: ProbeTask,
    evaluator: str,
    found: Sequence[SplitScores],
    *,
    settings: dict[str, Any],
    resamples: int,
) -> Result:
    """Turn scores of test clips into a result.

    The interval is a percentile bootstrap over test clips, resampled within each split, of the score averaged
    over seeds and splits. It tells how far the score depends on which clips were drawn; that folds differ (as
    speakers do) shows in ``per_fold``.

    Args:
        task: what was probed.
        evaluator: name of the probe.
        found: scores of the test clips of every split.
        settings: options and choices, for the record.
        resamples: bootstrap resamples; a fifth of them, but at least 200, for mAP.
    """
    table = np.array(
        [[score(task.labels[part.split.test], one) for one in part.scores] for part in found]
    )  # [splits, seeds]
    return Result(
        task=task.name,
        evaluator=evaluator,
        metric=metric_of(task.labels),
        mean=float(table.mean()),
        interval=_interval(task.labels, found, resamples),
        per_fold={part.split.name: float(value) for part, value in zip(found, table.mean(axis=1), strict=True)},
        per_seed=[float(value) for value in table.mean(axis=0)],
        settings=settings,
        notes=_notes(task, found),
        per_clip=_per_clip(task.labels, found),
    )
