"""Scores of rankings: how early what is relevant comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ranked_scores"]


def ranked_scores(relevant: NDArray[np.bool_], cuts: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """Score rankings of the whole gallery.

    ``AP@k = sum over the relevant ranks i <= k of P@i, over min(k, relevant clips)``; ``P@k`` is the fraction of
    relevant clips among the first k. ``mAP`` without k is over the whole ranking: scikit-learn's average precision.

    Args:
        relevant: ``[queries, gallery]``, nearest first.
        cuts: values of k, at most the size of the gallery each.

    Returns:
        Per query ``[queries]``, by name in tables; NaN where the gallery holds nothing relevant.
    """
    total = relevant.sum(axis=1)  # [queries]
    ranks = np.arange(1, relevant.shape[1] + 1)
    precision = relevant.cumsum(axis=1) / ranks  # [queries, gallery]
    known = total > 0

    def average(first: int, most: NDArray[Any]) -> NDArray[np.float64]:
        gained = (precision[:, :first] * relevant[:, :first]).sum(axis=1)  # [queries]
        return np.where(known, gained / np.maximum(most, 1), np.nan)

    scores = {"mAP": average(relevant.shape[1], total)}
    for k in cuts:
        first = min(k, relevant.shape[1])
        scores[f"mAP@{k}"] = average(first, np.minimum(total, k))
        scores[f"P@{k}"] = np.where(known, precision[:, first - 1], np.nan)
    return scores
