"""What a probe reaches that knows the test part's shares of classes, and nothing about any clip."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.scoring.metrics import Metric, kind_of

__all__ = ["chance_of"]


def chance_of(metric: Metric, labels: NDArray[Any]) -> float:
    """Return the score of knowing nothing, in expectation.

    - accuracy: always the most frequent class;
    - macro F1: the best of three: always the most frequent class, each class equally often, each class as often as it
      occurs. Where classes are uneven, guessing as often as they occur beats the most frequent class, as F1 counts a
      class that is never answered as 0;
    - mAP: clips in random order. With few positives that is well above their share;
    - macro AUC, EER, d-prime: random scores; R2, MAE: always the mean, or the median, of the labels.

    Args:
        metric: one that fits the labels.
        labels: of test clips; int ``[n]``, 0 and 1 ``[n, classes]``, or floats ``[n]``.

    Returns:
        A score; NaN where no class has a positive clip.
    """
    if metric.name == "mAP":
        return _mean_average_precision(labels)
    if metric.sorts:
        return {"macro AUC": 0.5, "EER": 0.5}.get(metric.name, 0.0)
    if kind_of(labels) == "single":
        counts = np.bincount(labels)
        return _macro_f1(counts[counts > 0]) if metric.name == "macro F1" else float(counts.max() / len(labels))
    centre = np.median(labels) if metric.name == "MAE" else labels.mean()
    return float(metric.value(labels, np.full((len(labels), 1), centre), None)[0])


def _mean_average_precision(labels: NDArray[Any]) -> float:
    """Expected mAP of labels ``[n, classes]`` in random order; classes without positives are left out.

    The precision at a positive's own rank i is expected to be (1 + (P - 1)(i - 1)/(n - 1)) / i, as the P - 1 others
    are equally likely at each of the n - 1 other ranks. The mean over i is the formula below, with the harmonic number
    H_n = 1 + 1/2 + ... + 1/n.
    """
    clips = len(labels)
    positives = labels.sum(axis=0, dtype=np.float64)  # [classes]
    positives = positives[positives > 0]
    if not len(positives):
        return float("nan")
    harmonic = float((1.0 / np.arange(1, clips + 1)).sum())
    values = ((positives - 1) * (clips - harmonic) / max(clips - 1, 1) + harmonic) / clips
    return float(values.mean())


def _macro_f1(counts: NDArray[np.int64]) -> float:
    """Best expected macro F1 of guesses, for ``counts [classes]`` of test clips, all above 0."""
    clips, classes = int(counts.sum()), len(counts)
    majority = 2 * counts.max() / (counts.max() + clips) / classes
    uniform = np.mean([_guessed_f1(int(count), clips, 1 / classes) for count in counts])
    proportional = np.mean([_guessed_f1(int(count), clips, count / clips) for count in counts])
    return float(max(majority, uniform, proportional))


def _guessed_f1(count: int, clips: int, rate: float) -> float:
    """Expected F1 of one class with ``count`` of the clips that is answered at ``rate`` whatever the clip.

    It is answered A times, A binomial; of these A count / clips are right, on average. F1 is twice the right answers
    over count + A.
    """
    if rate >= 1:
        return 2 * count / (count + clips)
    answered = np.arange(clips + 1)
    steps = np.log((clips - answered[:-1]) / answered[1:] * (rate / (1 - rate)))  # of log-probabilities, [clips]
    chances = np.exp(clips * np.log1p(-rate) + np.concatenate([[0.0], np.cumsum(steps)]))  # of A, [clips + 1]
    return float(2 * count / clips * (chances * answered / (count + answered)).sum())
