"""Means and differences over several pre-trainings and the same test clips: variance, intervals, tests.

Every run of a cell (one recipe, several pre-training seeds) is scored on the same clips, so two things vary: another
pre-training, and another draw of test clips. The model is that of studies in which several readers judge the same cases
(Obuchowski and Rockette, Communications in Statistics 1995; Hillis, Statistics in Medicine 2007), with seeds as readers
and clips as cases: score_s = score + seed_s + clips, where the clips' part is shared by all seeds. Then

    variance(mean of score_s) = variance over seeds / S + covariance between seeds over draws of clips,

and of a difference of two cells the sum of both, less twice their covariance over draws of clips. Degrees of freedom
are Satterthwaite's. The covariance is floored at 0, and the whole at the variance that clips cause in the mean of
these very runs and at that of a single clip, so that a few clips or runs that agree by chance prove nothing. Probe
seeds are nested in runs: their noise is part of the variance over seeds. A plain bootstrap over seeds and clips is
too narrow with few seeds: of three, it sees two thirds of their variance. Measured errors:
workbench/docs/measured/comparison-errors.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = [
    "Estimate",
    "Sample",
    "average_samples",
    "difference_sample",
    "equivalence_p",
    "estimate",
    "holm",
    "mean_sample",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Scores, or differences of scores, of the runs of one or two cells on one task.

    Attributes:
        groups: one array ``[S]`` of a cell's scores; of a difference two, ``[S_a]`` and ``[S_b]``, the second to be
            subtracted, or one difference where a cell has a single run.
        clip_variance: variance of the mean that test clips cause, as far as all seeds share it.
        clip_df: its degrees of freedom, test clips minus 1.
        least: the least variance of the mean that is believed.
    """

    groups: tuple[Floats, ...]
    clip_variance: float
    clip_df: float
    least: float = 0.0

    @property
    def mean(self) -> float:
        """The mean, or the difference of means."""
        means = [float(group.mean()) for group in self.groups]
        return means[0] - (means[1] if len(means) > 1 else 0.0)

    @property
    def over_seeds(self) -> bool:
        """Whether it has several seeds, so that it speaks of pre-training and not of these runs only."""
        return all(len(group) > 1 for group in self.groups)


@dataclass(frozen=True)
class Estimate:
    """A mean with its variance and degrees of freedom; both NaN where they are not known."""

    mean: float
    variance: float
    df: float

    @property
    def error(self) -> float:
        """The standard error."""
        return float(np.sqrt(self.variance))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of the mean by the t distribution."""
        if np.isnan(self.variance):
            return float("nan"), float("nan")
        width = float(stats.t.ppf(0.5 + level / 2, self.df)) * self.error if self.variance > 0 else 0.0
        return self.mean - width, self.mean + width

    def p_value(self) -> float:
        """Return the two-sided p value of the hypothesis that the mean is 0."""
        if np.isnan(self.variance):
            return float("nan")
        if self.variance == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.df))


def mean_sample(values: Floats, clip_covariance: Floats, clips: int) -> Sample:
    """Return the sample of one cell.

    Args:
        values: ``[S]``.
        clip_covariance: ``[S, S]``, how they vary together over draws of test clips.
        clips: number of test clips.
    """
    count = len(values)
    shared = _off_diagonal(clip_covariance) if count > 1 else float(clip_covariance[0, 0])
    least = max(float(clip_covariance.mean()), clips**-2.0)
    return Sample((np.asarray(values, dtype=np.float64),), max(shared, 0.0), max(1.0, clips - 1.0), least)


def difference_sample(first: Floats, second: Floats, clip_covariance: Floats, clips: int) -> Sample:
    """Return the sample of the difference of two cells.

    Runs are paired by test clips, through the covariance, and not by seed: runs of equal seed share their first weights
    and the order of clips, which can make their scores more alike but not less, and pairs would leave half as many
    degrees of freedom. Where a cell has a single run, the difference speaks of these runs only.

    Args:
        first: ``[S_a]``, scores of one cell's runs.
        second: ``[S_b]``, to be subtracted.
        clip_covariance: ``[S_a + S_b, S_a + S_b]``, how they vary together over draws of test clips, in that order.
        clips: number of test clips.
    """
    count, df = len(first), max(1.0, clips - 1.0)
    weight = np.concatenate([np.full(count, 1 / count), np.full(len(second), -1 / len(second))])  # [S_a + S_b]
    fixed = float(weight @ clip_covariance @ weight)
    least = max(fixed, clips**-2.0)
    if count == 1 or len(second) == 1:
        return Sample((np.array([float(first.mean() - second.mean())]),), fixed, df, least)
    inside = _off_diagonal(clip_covariance[:count, :count]) + _off_diagonal(clip_covariance[count:, count:])
    shared = inside - 2 * float(clip_covariance[:count, count:].mean())
    return Sample((first, second), max(shared, 0.0), df, least)


def average_samples(samples: Sequence[Sample]) -> Sample | None:
    """Return the sample of the mean over tasks, whose clips are independent; None where the tasks' seeds differ."""
    shapes = {tuple(len(group) for group in sample.groups) for sample in samples}
    if len(shapes) != 1:
        return None
    groups = tuple(
        np.mean([sample.groups[number] for sample in samples], axis=0) for number in range(len(samples[0].groups))
    )
    parts = np.array([sample.clip_variance for sample in samples]) / len(samples) ** 2
    df = _satterthwaite([(float(part), sample.clip_df) for part, sample in zip(parts, samples, strict=True)])
    return Sample(groups, float(parts.sum()), df, sum(sample.least for sample in samples) / len(samples) ** 2)


def estimate(sample: Sample) -> Estimate:
    """Return the mean with its variance, by seeds and by clips."""
    parts = [(sample.clip_variance, sample.clip_df)]
    if sample.over_seeds:
        parts += [(float(group.var(ddof=1)) / len(group), len(group) - 1.0) for group in sample.groups]
    # The degrees of freedom stay those of the parts: a floor says nothing about how well they are known.
    return Estimate(sample.mean, max(sum(part for part, _ in parts), sample.least), _satterthwaite(parts))


def equivalence_p(found: Estimate, margin: float) -> float:
    """Return the p value of the hypothesis that the mean lies outside of -margin to margin (two one-sided t tests)."""
    if np.isnan(found.variance):
        return float("nan")
    if found.variance == 0:
        return 0.0 if abs(found.mean) < margin else 1.0
    return float(stats.t.sf((margin - abs(found.mean)) / found.error, found.df))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for the number of tests by Holm's step-down method; NaN are no tests."""
    known = [number for number, p in enumerate(p_values) if not np.isnan(p)]
    corrected = [float("nan")] * len(p_values)
    highest = 0.0
    for place, number in enumerate(sorted(known, key=lambda one: p_values[one])):
        highest = max(highest, min(1.0, (len(known) - place) * p_values[number]))
        corrected[number] = highest
    return corrected


def _off_diagonal(matrix: Floats) -> float:
    """Return the mean of the values off the diagonal of a square matrix."""
    count = len(matrix)
    return float((matrix.sum() - np.trace(matrix)) / (count * (count - 1)))


def _satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """Return the degrees of freedom of a sum of (variance, degrees of freedom)."""
    total = sum(part for part, _ in parts)
    squares = sum(part**2 / df for part, df in parts)
    return total**2 / squares if squares > 0 else max(df for _, df in parts)
