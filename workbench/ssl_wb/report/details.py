"""Further figures of results, such as a score per layer: one table for each task and evaluator."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ssl_wb.evaluation.results import Row
from ssl_wb.report.layout import Layout

__all__ = ["further_figures", "lay_out_details"]


def further_figures(rows: Sequence[Row]) -> list[str]:
    """Return the evaluators whose results have further figures."""
    return list(dict.fromkeys(row.evaluator for row in rows if row.result.table))


def lay_out_details(rows: Sequence[Row]) -> list[Layout]:
    """Arrange further figures: one per line, one column per encoder, the score itself on the first line.

    Args:
        rows: results.

    Returns:
        One table for each task and evaluator that has any, in order of appearance; numbers not in per cent.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.result.table:
            groups.setdefault((row.task, row.evaluator), []).append(row)
    layouts = []
    for (task, evaluator), group in groups.items():
        figures = [{row.result.metric: row.result.mean, **row.result.table} for row in group]
        names = dict.fromkeys(name for each in figures for name in each)
        body = [[name, *(_exact(each.get(name, math.nan)) for each in figures)] for name in names]
        columns = [f"{task} ({evaluator})", *(row.encoder for row in group)]
        layouts.append(Layout(columns, body, ["Numbers as they are, mean over probe seeds."]))
    return layouts


def _exact(value: float) -> str:
    """Write a figure with three decimals; nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.3f}"
