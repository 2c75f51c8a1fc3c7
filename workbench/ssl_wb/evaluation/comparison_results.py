"""What a comparison of cells found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["CellScore", "Column", "Comparison", "Contrast", "comparison_json"]

#: Significance level of tests.
LEVEL = 0.05


@dataclass(frozen=True)
class Column:
    """A task by one evaluator."""

    task: str
    evaluator: str
    metric: str
    percent: bool = True
    higher: bool = True
    domain: str | None = None
    chance: float = float("nan")


@dataclass(frozen=True)
class CellScore:
    """Score of a cell on a task.

    Attributes:
        mean: over pre-training seeds.
        interval: 95 %, over pre-trainings (with two seeds or more), probe seeds and test clips; NaN where not known.
        by_seed: score of each run.
        seeds_deviation: standard deviation of the runs' scores; NaN with one seed.
        probe_deviation: standard deviation over probe seeds within a run; NaN with one.
        clips_error: standard error that another draw of test clips causes in the mean.
    """

    mean: float
    interval: tuple[float, float]
    by_seed: Mapping[int, float]
    seeds_deviation: float
    probe_deviation: float
    clips_error: float


@dataclass(frozen=True)
class Contrast:
    """Difference of a cell to its baseline on a task, or averaged over tasks.

    Attributes:
        mean: cell minus baseline, in the metric's units.
        interval: 95 %, of this comparison by itself.
        p: p value of the hypothesis of no difference; ``p_holm`` corrected for all differences of the evaluator.
        p_equivalent: p value of the hypothesis of a difference of ``margin`` or more; likewise corrected.
        seeds: runs of the cell that has fewer.
        over_seeds: whether it speaks of other pre-trainings too, and not of these runs only.
    """

    cell: str
    baseline: str
    task: str
    evaluator: str
    mean: float
    interval: tuple[float, float]
    p: float
    p_equivalent: float
    seeds: int
    over_seeds: bool
    p_holm: float = float("nan")
    p_equivalent_holm: float = float("nan")

    @property
    def different(self) -> bool:
        """Whether the difference is significant at 5 % after correction."""
        return bool(self.p_holm < LEVEL)

    @property
    def equivalent(self) -> bool:
        """Whether the difference is within the margin, significant at 5 % after correction."""
        return bool(self.p_equivalent_holm < LEVEL)


@dataclass
class Comparison:
    """What is known of some cells.

    Attributes:
        cells: their names.
        columns: tasks.
        scores: by cell, task and evaluator.
        contrasts: by cell, task (or ``average``) and evaluator.
        averages: mean over the tasks in per cent, by cell and evaluator.
        ranks: mean rank over the tasks, 1 is best, by cell and evaluator.
        baselines: baseline of each cell that has one.
        margin: of equivalence, in points.
        notes: what a reader should know.
    """

    cells: list[str]
    columns: list[Column]
    scores: dict[tuple[str, str, str], CellScore] = field(default_factory=dict)
    contrasts: dict[tuple[str, str, str], Contrast] = field(default_factory=dict)
    averages: dict[tuple[str, str], float] = field(default_factory=dict)
    ranks: dict[tuple[str, str], float] = field(default_factory=dict)
    baselines: dict[str, str] = field(default_factory=dict)
    margin: float = 1.0
    notes: list[str] = field(default_factory=list)


def comparison_json(found: Comparison) -> dict[str, Any]:
    """Return a comparison as plain values; None for what is not known."""
    return {
        "cells": found.cells,
        "baselines": found.baselines,
        "margin": found.margin,
        "scores": [
            {"cell": cell, "task": task, "evaluator": evaluator, **_plain(vars(score))}
            for (cell, task, evaluator), score in found.scores.items()
        ],
        "differences": [
            {**_plain(vars(one)), "different": one.different, "equivalent": one.equivalent}
            for one in found.contrasts.values()
        ],
        "averages": [
            {"cell": cell, "evaluator": evaluator, "mean": mean, "mean_rank": found.ranks.get((cell, evaluator))}
            for (cell, evaluator), mean in found.averages.items()
        ],
        "notes": found.notes,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
