"""Cells compared on every task: means, where they vary, differences to a baseline, equivalence, ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ssl_wb.errors import UsageError, did_you_mean
from ssl_wb.evaluation.compare import AVERAGE
from ssl_wb.evaluation.comparison_results import CellScore, Column, Comparison, Contrast
from ssl_wb.evaluation.run_results import RunCell
from ssl_wb.scoring.clip_scores import covariance
from ssl_wb.scoring.variance import (
    Sample,
    average_samples,
    difference_sample,
    equivalence_p,
    estimate,
    holm,
    mean_sample,
)

__all__ = ["averaged_tasks", "check_cell", "compare_cells"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Task:
    """Runs on one task: their scores, and how these vary together over draws of clips."""

    column: Column
    runs: list[tuple[str, int]]  # (cell, seed)
    covariance: Floats | None  # [runs, runs]
    clips: int

    def part(self, *cells: str) -> Floats | None:
        """Return the covariance of the runs of some cells, one after the other."""
        if self.covariance is None:
            return None
        rows = [number for cell in cells for number, (name, _) in enumerate(self.runs) if name == cell]
        return self.covariance[np.ix_(rows, rows)]


def compare_cells(cells: Sequence[RunCell], baselines: Mapping[str, str], margin: float = 1.0) -> Comparison:
    """Compare cells on all tasks that their runs were probed on.

    Args:
        cells: runs of one recipe each.
        baselines: the cell that each is compared with; cells that are missing here are compared with none.
        margin: of equivalence, in points.

    Raises:
        UsageError: no run has results.
    """
    columns = _columns(cells)
    if not columns:
        some = next(iter(cells[0].runs.values())).path
        raise UsageError(
            f"{some}: no results; these runs were not probed",
            hint="name tasks to probe them on now: --task MANIFEST.csv",
        )
    found = Comparison([cell.name for cell in cells], columns, baselines=dict(baselines), margin=margin)
    samples: dict[tuple[str, str, str], Sample] = {}
    for column in columns:
        task = _read(cells, column, found.notes)
        for cell in cells:
            if (score := _score(cell, column, task)) is not None:
                found.scores[cell.name, column.task, column.evaluator] = score
        for name, other in baselines.items():
            sample = _difference(found, task, name, other)
            if sample is not None:
                samples[name, column.task, column.evaluator] = sample
    _add_contrasts(found, samples)
    _add_ranks(found)
    few = sorted({name for cell in cells for name in [cell.name] if len(cell.runs) == 1})
    if few:
        shown = ", ".join(few[:3]) + (f" and {len(few) - 3} more" if len(few) > 3 else "")
        found.notes.append(
            f"One pre-training seed each: {shown}. Intervals and tests of these speak of these runs only, not of what "
            "another pre-training would give."
        )
    return found


def check_cell(name: str, cells: Sequence[RunCell]) -> str:
    """Return the name of the cell that a name or a run folder means.

    Raises:
        UsageError: there is none.
    """
    for cell in cells:
        if name == cell.name or any(str(run.path) == name.rstrip("/") for run in cell.runs.values()):
            return cell.name
    names = [cell.name for cell in cells]
    raise UsageError(
        f"--baseline {name}: no cell is called so{did_you_mean(name, names)}", hint=f"the cells are {', '.join(names)}"
    )


def _columns(cells: Sequence[RunCell]) -> list[Column]:
    """Return the tasks of all runs, in order of appearance."""
    rows = [row for cell in cells for run in cell.runs.values() for row in run.rows]
    columns: dict[tuple[str, str], Column] = {}
    for row in rows:
        key = row["task"], row["evaluator"]
        columns.setdefault(
            key,
            Column(
                *key,
                metric=row["metric"],
                percent=bool(row.get("percent", True)),
                higher=bool(row.get("higher", True)),
                domain=row.get("domain"),
                chance=float("nan") if row.get("chance") is None else float(row["chance"]),
            ),
        )
    return list(columns.values())


def _mean_of(cell: RunCell, seed: int, column: Column) -> float | None:
    for row in cell.runs[seed].rows:
        if (row["task"], row["evaluator"], row["metric"]) == (column.task, column.evaluator, column.metric):
            return None if row["mean"] is None else float(row["mean"])
    return None


def _read(cells: Sequence[RunCell], column: Column, notes: list[str]) -> _Task:
    """Return the runs that have a task, with the covariance over its clips if all were tested on the same ones."""
    key = column.task, column.evaluator
    runs = [(cell.name, seed) for cell in cells for seed in cell.runs if _mean_of(cell, seed, column) is not None]
    by_name = {cell.name: cell for cell in cells}
    kept = [by_name[name].runs[seed].scores.get(key) for name, seed in runs]
    known = [one for one in kept if one is not None]
    if len(known) < len(kept) or not known:
        if known or column.metric not in ("effective rank",):
            notes.append(
                f"{column.task} ({column.evaluator}): scores of single clips are missing for some runs, so there is no "
                "interval and no test; runs of older versions have none, and evaluators without labels give none"
            )
        return _Task(column, runs, None, 0)
    if not all(one.same_clips(known[0]) for one in known[1:]):
        notes.append(
            f"{column.task} ({column.evaluator}): the runs were not tested on the same clips, so there is no interval "
            "and no test; probe all of them on one manifest"
        )
        return _Task(column, runs, None, 0)
    return _Task(column, runs, covariance(known), known[0].tested)


def _score(cell: RunCell, column: Column, task: _Task) -> CellScore | None:
    """Return a cell's score on a task."""
    by_seed = {seed: mean for seed in cell.runs if (mean := _mean_of(cell, seed, column)) is not None}
    if not by_seed:
        return None
    values = np.array(list(by_seed.values()))
    part = task.part(cell.name)
    interval, clips_error = (float("nan"), float("nan")), float("nan")
    if part is not None:
        sample = mean_sample(values, part, task.clips)
        low, high = estimate(sample).interval()
        clips_error = float(np.sqrt(sample.clip_variance))
        interval = (max(low, 0.0), min(high, 1.0)) if column.percent else (low, high)
    spreads = [
        float(np.var(row["per_seed"], ddof=1))
        for seed in by_seed
        for row in cell.runs[seed].rows
        if (row["task"], row["evaluator"]) == (column.task, column.evaluator) and len(row["per_seed"]) > 1
    ]
    return CellScore(
        float(values.mean()),
        interval,
        by_seed,
        float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
        float(np.sqrt(np.mean(spreads))) if spreads else float("nan"),
        clips_error,
    )


def _difference(found: Comparison, task: _Task, name: str, other: str) -> Sample | None:
    """Return the sample of the difference of two cells on a task; None where one lacks it or clips are unknown."""
    column = task.column
    ours, theirs = (found.scores.get((one, column.task, column.evaluator)) for one in (name, other))
    part = task.part(name, other)
    if ours is None or theirs is None or part is None or name == other:
        return None
    first, second = (np.array(list(one.by_seed.values())) for one in (ours, theirs))
    return difference_sample(first, second, part, task.clips)


def _add_contrasts(found: Comparison, samples: Mapping[tuple[str, str, str], Sample]) -> None:
    """Test every difference, correct for their number evaluator by evaluator, averages by themselves."""
    for evaluator in dict.fromkeys(column.evaluator for column in found.columns):
        units = {column.task: column.percent for column in found.columns if column.evaluator == evaluator}
        tested = {key: sample for key, sample in samples.items() if key[2] == evaluator}
        averaged = {}
        tasks = averaged_tasks(found, evaluator)
        for name in found.baselines:
            parts = [samples[name, task, evaluator] for task in tasks if (name, task, evaluator) in samples]
            if len(parts) == len(tasks) > 1 and (mean := average_samples(parts)) is not None:
                averaged[name, AVERAGE, evaluator] = mean
        for family in (tested, averaged):
            contrasts = [_contrast(found, key, sample, units.get(key[1], True)) for key, sample in family.items()]
            corrected = holm([one.p for one in contrasts]), holm([one.p_equivalent for one in contrasts])
            for one, p, equivalent in zip(contrasts, *corrected, strict=True):
                whole = replace(one, p_holm=p, p_equivalent_holm=equivalent)
                found.contrasts[one.cell, one.task, one.evaluator] = whole


def _contrast(found: Comparison, key: tuple[str, str, str], sample: Sample, percent: bool) -> Contrast:
    one = estimate(sample)
    # A margin in points means something for scores in per cent only.
    margin_p = equivalence_p(one, found.margin / 100) if percent else float("nan")
    count = min(len(group) for group in sample.groups)
    return Contrast(
        key[0],
        found.baselines[key[0]],
        key[1],
        key[2],
        one.mean,
        one.interval(),
        one.p_value(),
        margin_p,
        count,
        sample.over_seeds,
    )


def averaged_tasks(found: Comparison, evaluator: str) -> list[str]:
    """Return the tasks of an evaluator that are averaged: in per cent, higher is better."""
    return [one.task for one in found.columns if one.evaluator == evaluator and one.percent and one.higher]


def _add_ranks(found: Comparison) -> None:
    """Add averages and mean ranks of the cells that have all tasks of an evaluator."""
    for evaluator in dict.fromkeys(column.evaluator for column in found.columns):
        columns = [column for column in found.columns if column.evaluator == evaluator]
        whole = [
            cell for cell in found.cells if all((cell, column.task, evaluator) in found.scores for column in columns)
        ]
        tasks = averaged_tasks(found, evaluator)
        if len(tasks) > 1:
            for cell in whole:
                means = [found.scores[cell, task, evaluator].mean for task in tasks]
                found.averages[cell, evaluator] = float(np.mean(means))
        if len(whole) > 1 and len(columns) > 1:
            ranks = [
                stats.rankdata(
                    [(-1 if column.higher else 1) * found.scores[cell, column.task, evaluator].mean for cell in whole]
                )
                for column in columns
            ]
            for cell, rank in zip(whole, np.mean(ranks, axis=0), strict=True):
                found.ranks[cell, evaluator] = float(rank)
