"""Is one encoder better than another? Paired differences to a named row, and averages over tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.contracts.evaluator import Result
from ssl_wb.errors import DataError, UsageError
from ssl_wb.evaluate.runner import Row
from ssl_wb.scoring.summary import interval_of, paired_draws
from ssl_wb.suggest import did_you_mean

__all__ = ["AVERAGE", "Difference", "average", "averaged", "compare", "difference"]

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


def averaged(rows: Sequence[Row], evaluator: str) -> list[str]:
    """Return the tasks whose average can be taken: at least two, all of a share where more is better."""
    fitting = [row for row in rows if row.evaluator == evaluator and row.result.percent and row.result.higher]
    tasks = list(dict.fromkeys(row.task for row in fitting))
    return tasks if len(tasks) > 1 else []


def average(rows: Sequence[Row], encoder: str, evaluator: str) -> float:
    """Return the mean over the tasks that can be averaged; NaN where the encoder lacks one."""
    tasks = averaged(rows, evaluator)
    means = {row.task: row.result.mean for row in rows if row.encoder == encoder and row.evaluator == evaluator}
    return float(np.mean([means[task] for task in tasks])) if tasks and set(tasks) <= set(means) else float("nan")


def compare(rows: Sequence[Row], baseline: str) -> dict[tuple[str, str, str], Difference]:
    """Compare every encoder with one of them on every task.

    Args:
        rows: results.
        baseline: name of the row to compare with.

    Returns:
        By encoder, task and evaluator; for the task :data:`AVERAGE` the difference of the averages, the tasks' clips
        drawn independently. Results without scores per clip have no entry.

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
    together: dict[tuple[str, str], list[tuple[str, float, NDArray[np.float64]]]] = {}
    for row in rows:
        other = reference.get((row.task, row.evaluator))
        if row.encoder == baseline or other is None:
            continue
        try:
            mean, draws = paired_draws(row.result, other)
        except DataError:
            continue
        found[row.encoder, row.task, row.evaluator] = Difference(mean, interval_of(draws))
        if row.task in averaged(rows, row.evaluator):
            together.setdefault((row.encoder, row.evaluator), []).append((row.task, mean, draws))
    for (encoder, evaluator), parts in together.items():
        if len(parts) == len(averaged(rows, evaluator)):
            shortest = min(len(draws) for _, _, draws in parts)  # metrics that sort are drawn less often
            # The tasks' draws share a seed; each is turned by its own number, or equal clip counts would move together.
            spread = [np.random.default_rng(n).permutation(draws)[:shortest] for n, (_, _, draws) in enumerate(parts)]
            mean = float(np.mean([part for _, part, _ in parts]))
            found[encoder, AVERAGE, evaluator] = Difference(mean, interval_of(np.mean(spread, axis=0)))
    return found
