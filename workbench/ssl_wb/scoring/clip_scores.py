"""Scores of single test clips: what a result leaves, and how scores of several runs vary together over clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.plugin.evaluator import Result
from ssl_wb.scoring.metrics import METRICS, Metric, correct
from ssl_wb.scoring.summary import bootstrap, defined_mean

__all__ = ["ClipScores", "clip_scores", "covariance"]

Floats = NDArray[np.float64]

#: Bootstrap resamples for the covariance of metrics that are no mean over clips; those that sort get fewer.
RESAMPLES, SORTED_RESAMPLES = 1000, 200


@dataclass(frozen=True)
class ClipScores:
    """Scores of the test clips of one result, split by split.

    Attributes:
        metric: name of the metric.
        clips: of each split, int64 ``[n]``: the clips' numbers in the task.
        labels: of each split, ``[n]`` or ``[n, classes]``.
        scores: of each split, for accuracy bool ``[seeds, n]``, whether the clip was right; else ``[seeds, n,
            classes]``.
    """

    metric: str
    clips: tuple[NDArray[np.int64], ...]
    labels: tuple[NDArray[Any], ...]
    scores: tuple[NDArray[Any], ...]

    @property
    def tested(self) -> int:
        """Number of test clips in all splits."""
        return sum(len(part) for part in self.clips)

    def by_seed(self) -> Floats:
        """Return the score of every probe seed, mean over splits, ``[seeds]``."""
        if self.metric == "accuracy":
            values = [part.mean(axis=1) for part in self.scores]
        else:
            value = METRICS[self.metric].value
            values = [
                np.array([float(value(labels, one, None)[0]) for one in scores])
                for labels, scores in zip(self.labels, self.scores, strict=True)
            ]
        return np.atleast_1d(defined_mean(np.stack(values), axis=0))

    def same_clips(self, other: ClipScores) -> bool:
        """Whether another result is of the same test clips with the same labels, by the same metric."""
        return (
            self.metric == other.metric
            and len(self.clips) == len(other.clips)
            and all(np.array_equal(a, b) for a, b in zip(self.clips, other.clips, strict=True))
            and all(np.array_equal(a, b) for a, b in zip(self.labels, other.labels, strict=True))
        )


def clip_scores(result: Result) -> ClipScores | None:
    """Return a result's scores of single clips; None where its evaluator or its metric has none."""
    if not result.scores or result.labels is None or result.metric not in METRICS:
        return None
    clips = tuple(np.asarray(part.split.test, dtype=np.int64) for part in result.scores)
    labels = tuple(result.labels[part] for part in clips)
    scores: tuple[NDArray[Any], ...] = tuple(np.asarray(part.scores, dtype=np.float32) for part in result.scores)
    if result.metric == "accuracy":
        pairs = zip(labels, result.scores, strict=True)
        scores = tuple(correct(of_split, part.scores).astype(bool) for of_split, part in pairs)
    return ClipScores(result.metric, clips, labels, scores)


def covariance(results: Sequence[ClipScores]) -> Floats:
    """Return how the scores of several runs on the same test clips vary together over draws of test clips.

    Of accuracy, a mean over clips, the covariance is that of the mean; of other metrics it is by a bootstrap that draws
    the same clips for all runs. Clips are drawn within each split.

    Args:
        results: one for each run, of the same test clips.

    Returns:
        ``[runs, runs]``.
    """
    first = results[0]
    splits = len(first.clips)
    total = np.zeros((len(results), len(results)))
    metric = METRICS[first.metric]
    for split in range(splits):
        count = len(first.clips[split])
        if first.metric == "accuracy":
            right = np.stack([one.scores[split].mean(axis=0) for one in results])  # [runs, n]
            found = np.atleast_2d(np.cov(right, ddof=1)) / count if count > 1 else np.zeros_like(total)
        else:
            resamples = SORTED_RESAMPLES if metric.sorts else RESAMPLES
            # One seed for all runs, so the same clips are drawn for all of them.
            draws = np.stack(
                [bootstrap(_mean_score(metric, one, split), count, resamples, split) for one in results]
            )  # [runs, resamples]
            known = draws[:, ~np.isnan(draws).any(axis=0)]
            found = np.atleast_2d(np.cov(known, ddof=1)) if known.shape[1] > 1 else np.zeros_like(total)
        total += found / splits**2
    return total


def _mean_score(metric: Metric, one: ClipScores, split: int) -> Callable[[Floats], Floats]:
    """Return what scores a split with clip weights ``[r, n]``, mean over probe seeds, as ``[r]``."""

    def score(weights: Floats) -> Floats:
        values = [metric.value(one.labels[split], scores, weights) for scores in one.scores[split]]
        return np.asarray(np.mean(values, axis=0))

    return score
