"""Means and differences over several pre-trainings and the same test clips: variance, intervals, tests.

Every run of a cell (one recipe, several pre-training seeds) is scored on the same clips, so two things vary: another
pre-training, and another draw of test clips. The model is that of studies in which several readers judge the same cases
(Obuchowski and Rockette, Communications in Statistics 1995; degrees of freedom of Hillis, Statistics in Medicine 2007),
with seeds as readers and clips as cases: d_s = d + seed_s + clips, where the clips' part is shared by all seeds. Then

    variance(mean of d_s) = variance over seeds / S + covariance between seeds over draws of clips,

the covariance floored at 0, and the whole at the variance that clips cause in the mean of these very runs, and at that
of a single clip, so that a few clips or runs that agree by chance prove nothing. Probe seeds are nested in runs: their
noise is part of the variance over seeds. A plain bootstrap over seeds and clips is too narrow with few seeds: of three,
it sees two thirds of their variance (workbench/docs/measured/comparison-errors.md).
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
        groups: one array ``[S]`` of a cell's scores or of differences between runs of equal seed; two arrays ``[S_a]``,
            ``[S_b]``, the second to be subtracted, where seeds differ.
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
    """Return the sample of one cell, or of differences between runs of equal seed.

    Args:
        values: ``[S]``.
        clip_covariance: ``[S, S]``, how they vary together over draws of test clips.
        clips: number of test clips.
    """
    count = len(values)
    shared = _off_diagonal(clip_covariance) if count > 1 else float(clip_covariance[0, 0])
    least = max(float(clip_covariance.mean()), clips**-2.0)
    return Sample((np.asarray(values, dtype=np.float64),), max(shared, 0.0), max(1.0, clips - 1.0), least)


def difference_sample(first: dict[int, float], second: dict[int, float], clip_covariance: Floats, clips: int) -> Sample:
    """Return the sample of the difference of two cells.

    Seeds that both cells have are paired, if there are two or more; otherwise cells with two or more seeds each are
    compared as independent; otherwise the difference speaks of these runs only.

    Args:
        first: score by seed.
        second: score by seed, to be subtracted.
        clip_covariance: ``[S_a + S_b, S_a + S_b]``, in the order of both.
        clips: number of test clips.
    """
    common = [seed for seed in first if seed in second]
    a, b = list(first), [len(first) + number for number in range(len(second))]
    if len(common) > 1 or (len(common) == 1 == len(first) == len(second)):
        weights = np.zeros((len(common), len(first) + len(second)))  # [S, runs]
        for row, seed in enumerate(common):
            weights[row, a.index(seed)] = 1.0
            weights[row, len(first) + list(second).index(seed)] = -1.0
        values = np.array([first[seed] - second[seed] for seed in common])
        return mean_sample(values, weights @ clip_covariance @ weights.T, clips)
    groups = np.array(list(first.values())), np.array(list(second.values()))
    inside, across = slice(0, len(first)), clip_covariance[: len(first)][:, b]
    df = max(1.0, clips - 1.0)
    weight = np.array([*[1 / len(first)] * len(first), *[-1 / len(second)] * len(second)])
    fixed = float(weight @ clip_covariance @ weight)
    least = max(fixed, clips**-2.0)
    if len(first) > 1 and len(second) > 1:
        shared = _off_diagonal(clip_covariance[inside, inside]) + _off_diagonal(clip_covariance[np.ix_(b, b)])
        return Sample(groups, max(shared - 2 * float(across.mean()), 0.0), df, least)
    single = np.array([float(groups[0].mean() - groups[1].mean())])
    return Sample((single,), fixed, df, least)


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
    variance = sum(part for part, _ in parts)
    if variance < sample.least:
        return Estimate(sample.mean, sample.least, sample.clip_df)
    return Estimate(sample.mean, variance, _satterthwaite(parts))


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
