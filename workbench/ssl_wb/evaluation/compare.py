"""Comparison of encoders: paired differences to a baseline, and averages over tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.errors import DataError, UsageError, did_you_mean
from ssl_wb.evaluation.results import Row
from ssl_wb.plugin.evaluator import Result
from ssl_wb.scoring.summary import interval_of, paired_draws

__all__ = ["AVERAGE", "Difference", "average", "average_name", "averaged", "compare", "difference"]

#: The column of averages.
AVERAGE = "average"


@dataclass(frozen=True)
class Difference:
    """Difference between an encoder and the baseline.

    Attributes:
        mean: encoder minus baseline.
        interval: 95 % interval of the mean over test clips, by a paired bootstrap.
    """

    mean: float
    interval: tuple[float, float]

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0; not corrected for multiple comparisons."""
        return self.interval[0] > 0 or self.interval[1] < 0

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"mean": self.mean, "interval": list(self.interval), "significant": self.significant}


def difference(a: Result, b: Result) -> Difference:
    """Compare two results on the same test clips by a paired percentile bootstrap, ``a - b``.

    Raises:
        DataError: the results are not of the same clips and metric, or have no scores per clip.
    """
    mean, draws = paired_draws(a, b)
    return Difference(mean, interval_of(draws))


def average_name(domain: str | None = None) -> str:
    """Return the name that the average over a domain's tasks, or over all, has in the place of a task's."""
    return AVERAGE if domain is None else f"{domain} {AVERAGE}"


def averaged(rows: Sequence[Row], evaluator: str, domain: str | None = None) -> list[str]:
    """Return the tasks that are averaged: those with a metric in per cent where higher is better, if at least two.

    Args:
        rows: results.
        evaluator: name of the evaluator.
        domain: domain of the tasks; None for all tasks, equally weighted.
    """
    scored = [row for row in rows if row.evaluator == evaluator and not np.isnan(row.result.mean)]
    fitting = [row for row in scored if row.result.percent and row.result.higher]
    tasks = list(dict.fromkeys(row.task for row in fitting if domain is None or row.domain == domain))
    return tasks if len(tasks) > 1 else []


def average(rows: Sequence[Row], encoder: str, evaluator: str, domain: str | None = None) -> float:
    """Return an encoder's mean over the tasks of :func:`averaged`; NaN if it lacks one of them."""
    tasks = averaged(rows, evaluator, domain)
    means = {row.task: row.result.mean for row in rows if row.encoder == encoder and row.evaluator == evaluator}
    return float(np.mean([means[task] for task in tasks])) if tasks and set(tasks) <= set(means) else float("nan")


def compare(rows: Sequence[Row], baseline: str) -> dict[tuple[str, str, str], Difference]:
    """Compare every encoder with one of them on every task.

    Args:
        rows: results.
        baseline: name of the encoder to compare with.

    Returns:
        Differences by encoder, task and evaluator; under :func:`average_name`, those of the averages over all tasks or
        a domain's, with clips drawn independently for each task. Results without scores per clip have no entry.

    Raises:
        UsageError: no encoder has that name.
    """
    names = list(dict.fromkeys(row.encoder for row in rows))
    if baseline not in names:
        raise UsageError(
            f"no row is named {baseline!r}{did_you_mean(baseline, names)}", hint=f"The rows are {', '.join(names)}."
        )
    reference = {(row.task, row.evaluator): row.result for row in rows if row.encoder == baseline}
    found: dict[tuple[str, str, str], Difference] = {}
    by_average: dict[tuple[str, str | None, str], list[tuple[float, NDArray[np.float64]]]] = {}
    for row in rows:
        other = reference.get((row.task, row.evaluator))
        if row.encoder == baseline or other is None:
            continue
        try:
            mean, draws = paired_draws(row.result, other)
        except DataError:
            continue
        found[row.encoder, row.task, row.evaluator] = Difference(mean, interval_of(draws))
        for domain in dict.fromkeys((None, row.domain)):
            if row.task in averaged(rows, row.evaluator, domain):
                by_average.setdefault((row.encoder, domain, row.evaluator), []).append((mean, draws))
    for (encoder, domain, evaluator), parts in by_average.items():
        # An encoder without all the tasks has no average, so no difference of it.
        if len(parts) == len(averaged(rows, evaluator, domain)):
            found[encoder, average_name(domain), evaluator] = _mean_difference(parts)
    return found


def _mean_difference(parts: Sequence[tuple[float, NDArray[np.float64]]]) -> Difference:
    """Average differences over tasks, each given with its draws."""
    shortest = min(len(draws) for _, draws in parts)  # metrics that sort have fewer draws
    # All tasks' bootstraps start from one seed, so tasks with equally many clips drew the same rows. Shuffling each
    # task's draws by another seed makes them independent.
    shuffled = [np.random.default_rng(n).permutation(draws)[:shortest] for n, (_, draws) in enumerate(parts)]
    return Difference(float(np.mean([mean for mean, _ in parts])), interval_of(np.mean(shuffled, axis=0)))
