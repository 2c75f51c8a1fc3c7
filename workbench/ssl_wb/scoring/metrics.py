"""Metrics of test scores, of the clips as they are or of bootstrap resamples of them, each with its chance level.

A bootstrap resample is given as weights: how often each clip was drawn. Weights ``[r, n]`` give ``r`` values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssl_wb.errors import DataError, did_you_mean
from ssl_wb.scoring.chance import best_guess_f1, majority_accuracy, random_order_map

__all__ = [
    "METRICS",
    "Kind",
    "Metric",
    "average_precision",
    "choose_metric",
    "correct",
    "kind_of",
    "metric_of",
    "metrics_for",
    "score",
]

Floats = NDArray[np.float64]
#: What labels are: one class of several, several classes, or a number.
Kind = Literal["single", "several", "number"]

#: An area under the curve counts as no nearer to 0 or 1 than this, so that d' stays finite (at 6.7).
AUC_EDGE = 1e-6


def kind_of(labels: NDArray[Any]) -> Kind:
    """Return what labels are: int ``[n]``, 0 and 1 ``[n, classes]``, or floats ``[n]``."""
    if labels.ndim == 2:
        return "several"
    return "number" if np.issubdtype(labels.dtype, np.floating) else "single"


def correct(labels: NDArray[Any], scores: NDArray[Any]) -> Floats:
    """Return 1.0 where the class with the largest score is the label.

    Args:
        labels: int ``[n]``.
        scores: ``[..., n, classes]``; of equal scores the first class counts.
    """
    return np.asarray(scores.argmax(axis=-1) == labels, dtype=np.float64)  # [..., n]


def _ratio(part: Floats, whole: NDArray[Any]) -> Floats:
    """Divide elementwise; NaN where there is nothing to divide by."""
    return np.asarray(np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0))


def _counts(weights: Floats | None, clips: int) -> Floats:
    """Return weights ``[r, n]``; one row of ones without any."""
    return np.ones((1, clips)) if weights is None else weights


def _thresholds(labels: NDArray[Any], scores: NDArray[Any], weights: Floats | None) -> tuple[Floats, Floats, Floats]:
    """Lower a threshold through the scores ``[n]`` of one class; clips of equal score pass it together.

    Returns:
        In the order of falling scores, ``[r, n]`` each: each clip's positives (0, or its weight), and the positives and
        the clips that have passed the threshold at its score.
    """
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]  # [n]
    last = np.searchsorted(-falling, -falling, side="right") - 1  # [n], the last clip of the same score
    counts = _counts(weights, len(order))[:, order]  # [r, n]
    positives = counts * labels[order]  # [r, n]
    return positives, positives.cumsum(axis=1)[:, last], counts.cumsum(axis=1)[:, last]


def average_precision(labels: NDArray[Any], scores: NDArray[Any], weights: Floats | None = None) -> Floats:
    """Average precision of one class, as scikit-learn defines it: sum over n of (R_n - R_{n-1}) P_n.

    Args:
        labels: 0 or 1, ``[n]``.
        scores: ``[n]``; clips of equal score pass the threshold together.
        weights: how often each clip counts, ``[resamples, n]``; once when None.

    Returns:
        ``[resamples]`` (one without weights); NaN where no positive clip counts.
    """
    positives, hits, passed = _thresholds(labels, scores, weights)
    precision = np.divide(hits, passed, out=np.zeros_like(hits), where=passed > 0)
    return _ratio((positives * precision).sum(axis=1), positives.sum(axis=1))


def _area(labels: NDArray[Any], scores: NDArray[Any], weights: Floats | None = None) -> Floats:
    """Area under the ROC curve of one class ``[n]``: how often a positive is above a negative, ties half."""
    order = np.argsort(-scores, kind="stable")
    falling, positive = scores[order], labels[order]  # [n]
    counts = _counts(weights, len(order))[:, order]  # [r, n]
    positives, negatives = counts * positive, counts * (1 - positive)  # [r, n]
    passed = np.concatenate([np.zeros((len(positives), 1)), positives.cumsum(axis=1)], axis=1)  # [r, n + 1]
    above = passed[:, np.searchsorted(-falling, -falling, side="left")]  # positives of higher score than each clip
    level = passed[:, np.searchsorted(-falling, -falling, side="right")] - above  # positives of the same score
    wins = (negatives * (above + 0.5 * level)).sum(axis=1)
    return _ratio(wins, positives.sum(axis=1) * negatives.sum(axis=1))


def _equal_error(labels: NDArray[Any], scores: NDArray[Any], weights: Floats | None = None) -> Floats:
    """Equal error rate of one class ``[n]``: mean of misses and false alarms where they differ least."""
    positives, hits, passed = _thresholds(labels, scores, weights)
    total = positives.sum(axis=1, keepdims=True)  # [r, 1]
    negatives = passed[:, -1:] - total
    # The first column is a threshold above all clips: it misses every positive and has no false alarm.
    misses = np.concatenate([np.ones_like(total), 1.0 - _ratio(hits, np.broadcast_to(total, hits.shape))], axis=1)
    alarms = np.concatenate(
        [np.zeros_like(total), _ratio(passed - hits, np.broadcast_to(negatives, hits.shape))], axis=1
    )  # [r, n + 1]
    gaps = np.where(np.isnan(misses + alarms), np.inf, np.abs(misses - alarms))
    at = gaps.argmin(axis=1)[:, None]  # [r, 1]
    values = 0.5 * (np.take_along_axis(misses, at, 1) + np.take_along_axis(alarms, at, 1))[:, 0]
    return np.where((total > 0) & (negatives > 0), values[:, None], np.nan)[:, 0]


Curve = Callable[[NDArray[Any], NDArray[Any], Floats | None], Floats]


def _macro(curve: Curve, labels: NDArray[Any], scores: NDArray[Any], weights: Floats | None = None) -> Floats:
    """Mean over classes of ``[n, classes]`` (or one versus the rest of labels ``[n]``); ``[resamples]``.

    A class without positive clips has no value and is left out, in each resample separately.
    """
    if labels.ndim == 1:
        labels = np.eye(scores.shape[1])[labels]  # [n, classes]
        scores = _comparable(scores)
    columns = [curve(labels[:, c], scores[:, c], weights) for c in range(labels.shape[1]) if labels[:, c].any()]
    if not columns:
        return np.full(1 if weights is None else len(weights), np.nan)
    stacked = np.stack(columns)  # [classes, resamples]
    known = ~np.isnan(stacked)
    return _ratio(np.where(known, stacked, 0.0).sum(axis=0), known.sum(axis=0))


def _comparable(scores: NDArray[Any]) -> Floats:
    """Make scores ``[n, classes]`` comparable between clips, as one-versus-rest curves need.

    Logits become log-probabilities. Scores that are none (not negative, of one sum, as votes) stay as they are.
    """
    exact = scores.astype(np.float64)
    totals = exact.sum(axis=1)
    if exact.min(initial=0.0) >= 0 and np.allclose(totals, totals.mean(), rtol=1e-2):
        return np.asarray(exact)
    shifted = exact - exact.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _accuracy(labels: NDArray[Any], scores: NDArray[Any], weights: Floats | None = None) -> Floats:
    counts = _counts(weights, len(labels))
    return np.asarray(counts @ correct(labels, scores) / counts.sum(axis=1))


def _macro_f1(labels: NDArray[Any], scores: NDArray[Any], weights: Floats | None = None) -> Floats:
    """Mean of the classes' F1, as in scikit-learn over the classes that are true or predicted at least once."""
    counts = _counts(weights, len(labels))  # [r, n]
    true, predicted = np.eye(scores.shape[1])[labels], np.eye(scores.shape[1])[scores.argmax(axis=1)]  # [n, C]
    both, either = counts @ (true * predicted), counts @ true + counts @ predicted  # [r, C]
    values = np.where(either > 0, 2 * both / np.maximum(either, 1e-12), 0.0)
    return np.asarray(values.sum(axis=1) / np.maximum((either > 0).sum(axis=1), 1))


def _d_prime(labels: NDArray[Any], scores: NDArray[Any], weights: Floats | None = None) -> Floats:
    """Turn the macro AUC into a distance, sqrt(2) times the normal quantile (Gemmeke et al., ICASSP 2017)."""
    areas = np.clip(_macro(_area, labels, scores, weights), AUC_EDGE, 1 - AUC_EDGE)
    return np.array([np.nan if np.isnan(area) else 2**0.5 * NormalDist().inv_cdf(area) for area in areas])


def _eer(labels: NDArray[Any], scores: NDArray[Any], weights: Floats | None = None) -> Floats:
    if labels.ndim == 1 and scores.shape[1] == 2:
        # One detector of the second class: that of the first would be its mirror image.
        return _equal_error(labels, scores[:, 1].astype(np.float64) - scores[:, 0], weights)
    return _macro(_equal_error, labels, scores, weights)


def _r2(labels: NDArray[Any], scores: NDArray[Any], weights: Floats | None = None) -> Floats:
    """Fraction of the variance explained by predictions ``[n, 1]``."""
    counts = _counts(weights, len(labels))  # [r, n]
    centre = counts @ labels / counts.sum(axis=1)  # [r]
    spread = (counts * (labels - centre[:, None]) ** 2).sum(axis=1)
    return 1.0 - _ratio(counts @ (labels - scores[:, 0]) ** 2, spread)


def _mae(labels: NDArray[Any], scores: NDArray[Any], weights: Floats | None = None) -> Floats:
    counts = _counts(weights, len(labels))
    return np.asarray(counts @ np.abs(labels - scores[:, 0]) / counts.sum(axis=1))


def _of_constant(value: Curve, labels: NDArray[Any], constant: float) -> float:
    """Score one prediction for all clips."""
    return float(value(labels, np.full((len(labels), 1), constant), None)[0])


@dataclass(frozen=True)
class Metric:
    """A way to score test clips.

    Attributes:
        name: in tables.
        value: ``value(labels, scores, weights)`` of labels ``[n]`` or ``[n, classes]``, scores ``[n, classes]`` and
            weights ``[r, n]`` or None, as ``[r]``.
        kinds: kinds of labels it is for.
        chance: ``chance(labels)``: the expected value for a probe that knows the labels' distribution and nothing
            about any clip; NaN where no class has a positive clip.
        percent: whether tables print 100 times the value.
        higher: whether higher is better.
        sorts: whether one value costs a sort per class, so that fewer resamples are drawn.
    """

    name: str
    value: Callable[[NDArray[Any], NDArray[Any], Floats | None], Floats]
    kinds: tuple[Kind, ...]
    chance: Callable[[NDArray[Any]], float]
    percent: bool = True
    higher: bool = True
    sorts: bool = False


#: Every metric by name; the first that fits labels is their default.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", _accuracy, ("single",), majority_accuracy),
        Metric("macro F1", _macro_f1, ("single",), best_guess_f1),
        Metric("mAP", partial(_macro, average_precision), ("several",), random_order_map, sorts=True),
        # Random scores have an area of a half, as many misses as false alarms, and no distance.
        Metric("macro AUC", partial(_macro, _area), ("several", "single"), lambda _: 0.5, sorts=True),
        Metric("d-prime", _d_prime, ("several", "single"), lambda _: 0.0, percent=False, sorts=True),
        Metric("EER", _eer, ("several", "single"), lambda _: 0.5, higher=False, sorts=True),
        # The best constant prediction is the mean, and for absolute errors the median.
        Metric("R2", _r2, ("number",), lambda labels: _of_constant(_r2, labels, labels.mean())),
        Metric("MAE", _mae, ("number",), lambda labels: _of_constant(_mae, labels, np.median(labels)), False, False),
    )
}


def metrics_for(labels: NDArray[Any]) -> list[Metric]:
    """Return the metrics that fit labels, their default first."""
    kind = kind_of(labels)
    return [metric for metric in METRICS.values() if kind in metric.kinds]


def metric_of(labels: NDArray[Any]) -> str:
    """Name the metric of labels: accuracy (one class), mAP (several), R2 (a number)."""
    return metrics_for(labels)[0].name


def choose_metric(name: str | None, labels: NDArray[Any]) -> Metric:
    """Return a metric by name, in any case and with or without blanks; the labels' default without a name.

    Raises:
        DataError: no such metric, or it is not for such labels.
    """
    fitting = metrics_for(labels)
    if name is None:
        return fitting[0]
    known = {_plain(metric): metric for metric in METRICS}
    if _plain(name) not in known:
        raise DataError(
            f"metric {name!r} is not known{did_you_mean(name, METRICS)}", hint=f"Use one of {', '.join(METRICS)}."
        )
    metric = METRICS[known[_plain(name)]]
    if metric not in fitting:
        what = {"single": "one class per clip", "several": "several classes per clip", "number": "a number per clip"}
        raise DataError(
            f"metric {metric.name!r} is not for labels of {what[kind_of(labels)]}",
            hint=f"Use one of {', '.join(one.name for one in fitting)}.",
        )
    return metric


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def score(labels: NDArray[Any], scores: NDArray[Any], metric: str | None = None) -> float:
    """Return a metric's value so that higher is better: of metrics where lower is better, such as EER, the negative.

    Args:
        labels: int ``[n]`` (one class), 0 and 1 ``[n, classes]`` (classes without positives are left out), or floats
            ``[n]``.
        scores: ``[n, classes]``, or ``[n, 1]`` for numbers.
        metric: its name; the labels' default unless given: accuracy, macro mAP or R2.

    Raises:
        DataError: the metric does not fit the labels.
    """
    chosen = choose_metric(metric, labels)
    return float(chosen.value(labels, scores, None)[0]) * (1.0 if chosen.higher else -1.0)
