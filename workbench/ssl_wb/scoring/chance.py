"""Chance levels: what a probe scores on average that knows how frequent each class is, and nothing about any clip."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["best_guess_f1", "majority_accuracy", "random_order_map"]


def majority_accuracy(labels: NDArray[np.int64]) -> float:
    """Return the accuracy of always answering the most frequent class, of labels ``[n]``."""
    return float(np.bincount(labels).max() / len(labels))


def random_order_map(labels: NDArray[Any]) -> float:
    """Return the expected mAP of clips in random order; NaN without any positive.

    With few positives that is well above their share of the clips.

    Args:
        labels: 0 and 1, ``[n, classes]``; classes without positives are left out.

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


def best_guess_f1(labels: NDArray[np.int64]) -> float:
    """Return the expected macro F1 of the best of three ways to guess, of labels ``[n]``.

    Always the most frequent class; each class equally often; each class as often as it occurs. Where classes are
    uneven, the last beats the first, because a class that is never answered has an F1 of 0.
    """
    counts = np.bincount(labels)
    counts = counts[counts > 0]  # [classes]
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
