"""Is one encoder better than another? Paired differences to a named row, and averages over tasks."""

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
    """How far an encoder is from the baseline.

    Attributes:
        mean: encoder minus baseline.
        interval: 95 % interval of the mean over test clips, by a paired bootstrap.
    """

    mean: float
    interval: tuple[float, float]

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out 0; one comparison, not corrected for how many there are."""
        return self.interval[0] > 0 or self.interval[1] < 0

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"mean": self.mean, "interval": list(self.interval), "significant": self.significant}


def difference(a: Result, b: Result) -> Difference:
    """Compare two results on the same test clips by a paired percentile bootstrap, ``a - b``.

    Raises:
        DataError: the results are not of the same clips and metric, or have no scores per clip.
    """
    mean, draws = paired_draws(a, b)
    return Difference(mean, interval_of(draws))


def average_name(domain: str | None = None) -> str:
    """Name the average over the tasks of a domain, or over all, as a task is named."""
    return AVERAGE if domain is None else f"{domain} {AVERAGE}"


def averaged(rows: Sequence[Row], evaluator: str, domain: str | None = None) -> list[str]:
    """Return the tasks whose average can be taken: at least two, all of a share where more is better.

    Args:
        rows: results.
        evaluator: whose.
        domain: of the tasks; all, each counting the same, when None.
    """
    fitting = [row for row in rows if row.evaluator == evaluator and row.result.percent and row.result.higher]
    tasks = list(dict.fromkeys(row.task for row in fitting if domain is None or row.domain == domain))
    return tasks if len(tasks) > 1 else []


def average(rows: Sequence[Row], encoder: str, evaluator: str, domain: str | None = None) -> float:
    """Return the mean over the tasks that can be averaged; NaN where the encoder lacks one."""
    tasks = averaged(rows, evaluator, domain)
    means = {row.task: row.result.mean for row in rows if row.encoder == encoder and row.evaluator == evaluator}
    return float(np.mean([means[task] for task in tasks])) if tasks and set(tasks) <= set(means) else float("nan")


def compare(rows: Sequence[Row], baseline: str) -> dict[tuple[str, str, str], Difference]:
    """Compare every encoder with one of them on every task.

    Args:
        rows: results.
        baseline: name of the row to compare with.

    Returns:
        By encoder, task and evaluator; for a task of :func:`average_name` the difference of the averages, over all
        tasks or a domain's, the tasks' clips drawn independently. Results without scores per clip have no entry.

    Raises:
        UsageError: no row has that name.
    """
    names = list(dict.fromkeys(row.encoder for row in rows))
    if baseline not in names:
        raise UsageError(
            f"no row is named {baseline!r}{did_you_mean(baseline, names)}", hint=f"The rows are {', '.join(names)}."
        )
    reference = {(row.task, row.evaluator): row.result for row in rows if row.encoder == baseline}
    found: dict[tuple[str, str, str], Difference] = {}
    together: dict[tuple[str, str | None, str], list[tuple[float, NDArray[np.float64]]]] = {}
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
                together.setdefault((row.encoder, domain, row.evaluator), []).append((mean, draws))
    for (encoder, domain, evaluator), parts in together.items():
        if len(parts) == len(averaged(rows, evaluator, domain)):
            found[encoder, average_name(domain), evaluator] = _mean_difference(parts)
    return found


def _mean_difference(parts: Sequence[tuple[float, NDArray[np.float64]]]) -> Difference:
    """Average differences over tasks, each given with its draws."""
    shortest = min(len(draws) for _, draws in parts)  # metrics that sort are drawn less often
    # The tasks' draws share a seed; each is turned by its own number, or equal clip counts would move together.
    spread = [np.random.default_rng(n).permutation(draws)[:shortest] for n, (_, draws) in enumerate(parts)]
    return Difference(float(np.mean([mean for mean, _ in parts])), interval_of(np.mean(spread, axis=0)))
