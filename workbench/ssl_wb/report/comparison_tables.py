"""A comparison of cells as tables: what differs, scores, differences, where scores vary."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_wb.evaluation.compare import AVERAGE
from ssl_wb.evaluation.comparison_results import Column, Comparison
from ssl_wb.recipe.differences import shown
from ssl_wb.report.layout import Layout

__all__ = ["as_csv", "comparison_layouts", "differing_layout", "number"]


def number(value: float, *, percent: bool, sign: str = "", digits: int = 1) -> str:
    """Write a score with one digit if in per cent, else with two; nothing for NaN."""
    if math.isnan(value):
        return ""
    return format(100 * value, f"{sign}.{digits}f") if percent else format(value, f"{sign}.{digits + 1}f")


def differing_layout(cells: Sequence[str], keys: Mapping[str, Sequence[Any]]) -> Layout:
    """Arrange the keys in which recipes differ: a row for each key, a column for each cell."""
    body = [[key, *(shown(value).strip('"') for value in values)] for key, values in keys.items()]
    notes = ["All other keys of the recipes are equal, the seed aside." if keys else "The recipes are equal."]
    return Layout(["key", *cells], body, notes)


def comparison_layouts(found: Comparison, others: Sequence[Mapping[str, Any]] = ()) -> list[Layout]:
    """Return the tables of a comparison.

    Args:
        found: the comparison.
        others: results of untrained weights and log-mel statistics, shown below the cells.
    """
    layouts = [_scores(found, others)]
    if found.contrasts:
        layouts.append(_differences(found))
    layouts.append(_variation(found))
    return layouts


def _evaluators(found: Comparison) -> list[str]:
    return list(dict.fromkeys(column.evaluator for column in found.columns))


def _heading(column: Column) -> str:
    return f"{column.task} ({column.evaluator}, {column.metric}{'' if column.higher else ', lower is better'})"


def _marks(found: Comparison, cell: str, task: str, evaluator: str) -> str:
    one = found.contrasts.get((cell, task, evaluator))
    return "" if one is None else (" *" if one.different else "") + (" =" if one.equivalent else "")


def _scores(found: Comparison, others: Sequence[Mapping[str, Any]]) -> Layout:
    """Arrange the scores: a row for each cell."""
    averaged = [one for one in _evaluators(found) if any(key[1] == one for key in found.averages)]
    ranked = [one for one in _evaluators(found) if any(key[1] == one for key in found.ranks)]
    body = []
    for cell in found.cells:
        line = [cell]
        for column in found.columns:
            score = found.scores.get((cell, column.task, column.evaluator))
            if score is None:
                line.append("")
                continue
            text = number(score.mean, percent=column.percent)
            if deviation := number(score.seeds_deviation, percent=column.percent):
                text += f" ±{deviation}"
            low, high = (number(edge, percent=column.percent) for edge in score.interval)
            text += f" ({low}-{high})" if low and high else ""
            line.append(text + _marks(found, cell, column.task, column.evaluator))
        for one in averaged:
            text = number(found.averages.get((cell, one), math.nan), percent=True)
            line.append(text + _marks(found, cell, AVERAGE, one))
        line += [number(found.ranks.get((cell, one), math.nan), percent=False, digits=0) for one in ranked]
        body.append(line)
    body += _references(found, others, len(averaged), len(ranked))
    headings = ["cell", *map(_heading, found.columns)]
    headings += [f"{AVERAGE} ({one})" for one in averaged] + [f"mean rank ({one})" for one in ranked]
    return Layout(headings, body, _score_notes(found))


def _references(found: Comparison, others: Sequence[Mapping[str, Any]], averaged: int, ranked: int) -> list[list[str]]:
    """Return rows of encoders that were not trained, as means, and of chance."""
    means: dict[str, dict[tuple[str, str], list[float]]] = {}
    for row in others:
        name = "untrained" if row["role"] == "untrained" else row["encoder"]
        if row["mean"] is not None:
            means.setdefault(name, {}).setdefault((row["task"], row["evaluator"]), []).append(row["mean"])
    lines = []
    for name, known in means.items():
        cells = []
        for column in found.columns:
            values = known.get((column.task, column.evaluator), [])
            cells.append(number(sum(values) / len(values), percent=column.percent) if values else "")
        lines.append([name, *cells, *[""] * (averaged + ranked)])
    if any(not math.isnan(column.chance) for column in found.columns):
        chance = [number(column.chance, percent=column.percent) for column in found.columns]
        lines.append(["chance", *chance, *[""] * (averaged + ranked)])
    return lines


def _score_notes(found: Comparison) -> list[str]:
    notes = [
        "Per cent: mean over pre-training seeds; ± standard deviation over pre-training seeds; in brackets the 95 % "
        "interval over pre-trainings, probe seeds and test clips."
    ]
    if found.contrasts:
        notes.append(
            "* differs from its baseline; = within "
            f"{found.margin:g} point{'' if found.margin == 1 else 's'} of it. Both at 5 %, corrected for the number of "
            "comparisons (Holm). No mark: neither is shown."
        )
    if found.ranks:
        notes.append("Mean rank over the tasks; 1 is best.")
    return [*notes, *found.notes]


def _differences(found: Comparison) -> Layout:
    """Arrange the differences to the baselines."""
    headings = ["cell minus baseline"]
    columns = [
        (column.task, column.evaluator, column.percent)
        for column in found.columns
        if any(key[1:] == (column.task, column.evaluator) for key in found.contrasts)
    ]
    columns += [
        (AVERAGE, one, True) for one in _evaluators(found) if any(key[1:] == (AVERAGE, one) for key in found.contrasts)
    ]
    headings += [f"{task} ({evaluator})" for task, evaluator, _ in columns]
    body = []
    for cell in found.cells:
        if not any(key[0] == cell for key in found.contrasts):
            continue
        line = [f"{cell} minus {found.baselines[cell]}"]
        for task, evaluator, percent in columns:
            one = found.contrasts.get((cell, task, evaluator))
            if one is None:
                line.append("")
                continue
            mean, low, high = (number(value, percent=percent, sign="+") for value in (one.mean, *one.interval))
            text = f"{mean} ({low} to {high}), p {_p(one.p_holm)}"
            line.append(text + _marks(found, cell, task, evaluator))
        body.append(line)
    notes = [
        "Points; in brackets the 95 % interval of this difference by itself, over pre-trainings, probe seeds and test "
        "clips; p after Holm's correction, tasks and averages apart. Paired by test clips."
    ]
    return Layout(headings, body, notes)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _variation(found: Comparison) -> Layout:
    """Arrange where scores vary: over pre-training seeds, probe seeds and test clips, on average over the cells."""
    body = []
    for column in found.columns:
        scores = [
            found.scores[cell, column.task, column.evaluator]
            for cell in found.cells
            if (cell, column.task, column.evaluator) in found.scores
        ]
        line = [f"{column.task} ({column.evaluator})"]
        for name in ("seeds_deviation", "probe_deviation", "clips_error"):
            known = [value**2 for one in scores if not math.isnan(value := getattr(one, name))]
            line.append(number(math.sqrt(sum(known) / len(known)), percent=column.percent) if known else "")
        body.append(line)
    notes = [
        "Points, root mean square over the cells: standard deviation of a run's score over pre-training seeds; over "
        "probe seeds within a run; standard error of a cell's mean over draws of test clips."
    ]
    return Layout(["what varies", "pre-training seeds", "probe seeds", "test clips"], body, notes)


def as_csv(found: Comparison) -> str:
    """Return one line for each cell, task and evaluator, scores as fractions (accuracy 0 to 1)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            *("cell", "task", "evaluator", "metric", "seeds", "mean", "low", "high", "seeds_deviation"),
            *("probe_deviation", "clips_error", "baseline", "difference", "difference_low", "difference_high"),
            *("p", "p_holm", "different", "p_equivalent", "p_equivalent_holm", "equivalent"),
        ]
    )
    for (cell, task, evaluator), score in found.scores.items():
        column = next(one for one in found.columns if (one.task, one.evaluator) == (task, evaluator))
        figures = [score.mean, *score.interval, score.seeds_deviation, score.probe_deviation, score.clips_error]
        line = [cell, task, evaluator, column.metric, str(len(score.by_seed)), *map(_exact, figures)]
        one = found.contrasts.get((cell, task, evaluator))
        if one is not None:
            line += [one.baseline, *map(_exact, (one.mean, *one.interval, one.p, one.p_holm)), str(one.different)]
            line += [*map(_exact, (one.p_equivalent, one.p_equivalent_holm)), str(one.equivalent)]
        writer.writerow(line + [""] * (21 - len(line)))
    return text.getvalue()


def _exact(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
