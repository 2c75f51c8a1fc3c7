"""Results of probes: means, bootstrap intervals, and the paired difference between two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.errors import DataError
from ssl_wb.plugin.evaluator import ProbeTask, Result, SplitScores
from ssl_wb.scoring.metrics import METRICS, Metric, choose_metric, correct, metrics_for

__all__ = ["bootstrap", "defined_mean", "interval_of", "paired_draws", "score_interval", "scores_by_seed", "summarise"]

Floats = NDArray[np.float64]

#: Quantile of the normal distribution for 95 %.
Z = 1.959964
#: Resamples drawn at a time, to bound memory.
CHUNK = 100
#: Fewest resamples of a metric that sorts; such a metric gets a fifth of the number asked for.
SORTED_RESAMPLES = 200
#: Seed of every bootstrap, fixed so that the same scores give the same interval.
BOOTSTRAP_SEED = 0


def bootstrap(statistic: Callable[[Floats], Floats], clips: int, resamples: int, seed: int = 0) -> Floats:
    """Compute a statistic on bootstrap resamples of clips.

    Args:
        statistic: called with weights ``[r, clips]``, how often each clip was drawn; returns ``[r]``.
        clips: how many there are.
        resamples: how many to draw; the same for the same seed.
        seed: of the draw. Independent parts of one result, as folds, take different seeds: equal ones would draw the
            same clips of parts of one size.

    Returns:
        The statistic of each resample, ``[resamples]``.
    """
    generator = np.random.default_rng([BOOTSTRAP_SEED, seed])
    parts = []
    for first in range(0, resamples, CHUNK):
        draws = min(CHUNK, resamples - first)
        weights = generator.multinomial(clips, np.full(clips, 1.0 / clips), size=draws).astype(np.float64)
        parts.append(statistic(weights))
    return np.concatenate(parts)


def interval_of(draws: Floats) -> tuple[float, float]:
    """Return the 95 % percentile interval of bootstrap draws ``[r]``, without the NaN among them."""
    known = draws[~np.isnan(draws)]  # a resample may hold no positive clip at all
    low, high = np.percentile(known, [2.5, 97.5]) if known.size else (np.nan, np.nan)
    return (float(low), float(high))


def score_interval(draws: Floats, value: float, metric: Metric, labels: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Return the 95 % interval of a score, which contains the score.

    Metrics that are means over clips, or nearly so, have the percentile interval. A resample holds some clips twice,
    and copies of a positive lift a ranking: the resamples of mAP and AUC lie above their score. Such metrics get a
    normal interval around the score, on the scale of log-odds, that takes from the bootstrap its deviation only. As the
    bootstrap's variance of a mean of P clips is (P - 1) / P of the true one, the deviation is widened by
    sqrt(P / (P - 1)), P the harmonic mean of the classes' positive clips. Copies
    lift no EER, so it keeps percentiles: the basic interval (percentiles mirrored at the score) covered 87 %.

    Args:
        draws: bootstrap draws of the score, ``[r]``.
        value: the score.
        metric: its metric.
        labels: of the test clips of every split, ``[n]`` or ``[n, classes]``.
    """
    known = draws[~np.isnan(draws)]
    low, high = interval_of(draws)
    spread = float(known.std(ddof=1)) if known.size > 1 else 0.0
    if metric.sorts and metric.name != "EER" and spread > 0 and not np.isnan(value):
        width = Z * spread * _few_positives(labels)
        if metric.percent:  # between 0 and 1
            edge = min(max(value, 1e-3), 1 - 1e-3)
            middle, width = float(np.log(edge / (1 - edge))), width / (edge * (1 - edge))
            low, high = (float(1 / (1 + np.exp(-end))) for end in (middle - width, middle + width))
        else:
            low, high = value - width, value + width
    return min(low, value), max(high, value)


def _few_positives(labels: Sequence[NDArray[Any]]) -> float:
    """Return sqrt(P / (P - 1)), P the harmonic mean of the positives of the classes that have at least two."""
    counts = np.concatenate(
        [part.sum(axis=0, dtype=np.float64) if part.ndim == 2 else np.bincount(part) for part in labels]
    )
    counts = counts[counts > 1]
    mean = float(len(counts) / (1 / counts).sum()) if len(counts) else 2.0
    return float(np.sqrt(mean / (mean - 1)))


def _resamples(metric: Metric, resamples: int) -> int:
    return max(SORTED_RESAMPLES, resamples // 5) if metric.sorts else resamples


def _means(metric: Metric, labels: NDArray[Any], scores: NDArray[Any], weights: Floats) -> Floats:
    """Return the score ``[r]``, mean over seeds, of scores ``[S, n, classes]`` with clip weights ``[r, n]``."""
    if metric.name == "accuracy":  # a mean over clips: one matrix product serves all seeds
        return np.asarray(weights @ correct(labels, scores).mean(axis=0) / weights.sum(axis=1))
    return np.asarray(np.mean([metric.value(labels, one, weights) for one in scores], axis=0))


def _draws(metric: Metric, labels: NDArray[Any], found: Sequence[SplitScores], resamples: int) -> Floats:
    """Bootstrap draws ``[resamples]`` of the mean over seeds and splits, clips drawn within each split."""
    draws = [
        bootstrap(
            partial(_means, metric, labels[part.split.test], part.scores), len(part.split.test), resamples, number
        )
        for number, part in enumerate(found)
    ]
    # A fold without a value has none in any resample: the mean is over the others, as the score is.
    known = [values for values in draws if not np.isnan(values).all()]
    return np.asarray(np.stack(known).mean(axis=0)) if known else np.full(resamples, np.nan)


def defined_mean(values: NDArray[Any] | Sequence[float], axis: int | None = None) -> Any:
    """Return the mean of the values that are not NaN; NaN where there are none."""
    array = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(array)
    total, count = np.where(known, array, 0.0).sum(axis=axis), known.sum(axis=axis)
    mean = np.divide(total, count, out=np.full_like(total, np.nan, dtype=np.float64), where=count > 0)
    return float(mean) if mean.ndim == 0 else mean


def _undefined(found: Sequence[SplitScores], values: Floats, metric: Metric) -> list[str]:
    """Return a note on the splits whose score, of ``values [splits, seeds]``, is undefined."""
    names = [part.split.name for part, value in zip(found, values, strict=True) if np.isnan(value).all()]
    if not names:
        return []
    reason = {
        "R2": "their test clips are one, or all of one value; MAE is defined",
        "mAP": "no test clip there has any of the labels",
    }.get(metric.name, "test clips there are all of one class")
    if len(names) == len(found):
        return [
            f"{metric.name} is undefined in every split ({reason}): report another metric with --metric TASK=METRIC"
        ]
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return [
        f"{metric.name} is undefined in {len(names)} of {len(found)} splits, left out of the mean: {shown} ({reason})"
    ]


def _per_clip(labels: NDArray[Any], found: Sequence[SplitScores]) -> NDArray[np.float32]:
    """Return how often each clip was right, mean over seeds, ``[clips]``; NaN for clips that are never tested."""
    values = np.full(len(labels), np.nan, dtype=np.float32)  # [clips]
    for part in found:
        values[part.split.test] = correct(labels[part.split.test], part.scores).mean(axis=0)
    return values


def _notes(task: ProbeTask, found: Sequence[SplitScores], metric: Metric) -> tuple[str, ...]:
    """Return the task's notes and, for several labels, the classes left out."""
    notes = list(task.notes)
    if task.multi_label:
        for part in found:
            positives = np.atleast_1d(task.labels[part.split.test].any(axis=0))  # [classes]
            missing = [name for name, there in zip(task.classes, positives, strict=True) if not there]
            if missing:
                shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
                notes.append(
                    f"{part.split.name}: {len(missing)} of {len(task.classes)} classes have no positive "
                    f"test clip and are left out of {metric.name} ({shown})"
                )
    return tuple(notes)


def scores_by_seed(task: ProbeTask, found: Sequence[SplitScores], metric: Metric | None = None) -> Floats:
    """Return the score of every split and seed, ``[splits, seeds]``.

    Args:
        task: what was probed.
        found: scores of the test clips of every split.
        metric: how to score; the task's metric unless given.
    """
    value = (metric or choose_metric(task.metric, task.labels)).value
    return np.array(
        [[float(value(task.labels[part.split.test], one, None)[0]) for one in part.scores] for part in found]
    )


def summarise(
    task: ProbeTask,
    evaluator: str,
    found: Sequence[SplitScores],
    *,
    settings: dict[str, Any],
    resamples: int,
    table: dict[str, float] | None = None,
    detail: dict[str, Any] | None = None,
) -> Result:
    """Turn scores of test clips into a result.

    Folds in which the metric is undefined are left out of the mean, with a note.

    The interval (:func:`score_interval`) is by a bootstrap over test clips, resampled within each split, of the score
    averaged over seeds and splits: how much the score depends on which clips are in the test part. Differences between
    folds (as between speakers) are in ``per_fold``. The other metrics that fit the labels go to ``table``.

    Args:
        task: what was probed; its ``metric`` is the one reported.
        evaluator: name of the evaluator.
        found: scores of the test clips of every split.
        settings: options and what validation chose, for the record.
        resamples: bootstrap resamples; a fifth of them, but at least 200, for metrics that sort (mAP, AUC, EER).
        table: further figures by name.
        detail: data for a plot, in plain values.

    Raises:
        DataError: the task's metric does not fit its labels.
    """
    metric = choose_metric(task.metric, task.labels)
    values = scores_by_seed(task, found)  # [splits, seeds]
    mean = defined_mean(values)
    draws = _draws(metric, task.labels, found, _resamples(metric, resamples))
    unreported = [other for other in metrics_for(task.labels) if other != metric]
    others = {other.name: defined_mean(scores_by_seed(task, found, other)) for other in unreported}
    return Result(
        task=task.name,
        evaluator=evaluator,
        metric=metric.name,
        mean=mean,
        interval=score_interval(draws, mean, metric, [task.labels[part.split.test] for part in found]),
        per_fold={
            part.split.name: float(value) for part, value in zip(found, defined_mean(values, axis=1), strict=True)
        },
        per_seed=[float(value) for value in defined_mean(values, axis=0)],
        settings=settings,
        notes=(*_notes(task, found, metric), *_undefined(found, values, metric)),
        per_clip=_per_clip(task.labels, found) if metric.name == "accuracy" else None,
        table={**others, **(table or {})},
        detail=detail or {},
        percent=metric.percent,
        higher=metric.higher,
        scores=tuple(found),
        labels=task.labels,
    )


def paired_draws(a: Result, b: Result, resamples: int = 2000) -> tuple[float, Floats]:
    """Compare two results on the same test clips.

    Each bootstrap resample draws clips within each split, and both encoders are scored on the same clips. So clips that
    are hard for both do not widen the interval of the difference.

    Args:
        a: result of a probe that kept its test scores.
        b: another on the same task, with the same metric.
        resamples: draws; a fifth, but at least 200, for metrics that sort.

    Returns:
        ``a.mean - b.mean``, and its bootstrap draws ``[r]``.

    Raises:
        DataError: the results are not of the same clips and metric, or have no scores per clip.
    """
    if not a.scores or not b.scores or a.labels is None or b.labels is None or a.metric not in METRICS:
        raise DataError(
            f"task {a.task!r}: {a.evaluator!r} keeps no score per clip, so no paired difference",
            hint="Compare the two intervals instead.",
        )
    same = (
        a.task == b.task
        and a.metric == b.metric
        and np.array_equal(a.labels, b.labels)
        and len(a.scores) == len(b.scores)
        and all(np.array_equal(x.split.test, y.split.test) for x, y in zip(a.scores, b.scores, strict=True))
    )
    if not same:
        raise DataError(
            f"results of {a.task!r} and {b.task!r} are not of the same test clips",
            hint="Probe both encoders on one manifest with the same columns split and fold.",
        )
    metric = METRICS[a.metric]
    count = _resamples(metric, resamples)
    # Both calls use the same bootstrap seeds, so the same clips are drawn for both.
    return a.mean - b.mean, _draws(metric, a.labels, a.scores, count) - _draws(metric, a.labels, b.scores, count)
