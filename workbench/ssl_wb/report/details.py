"""Further figures of results, such as a score per layer: one table for each task and evaluator."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ssl_wb.evaluation.results import Row
from ssl_wb.report.layout import Layout

__all__ = ["lay_out_details"]


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
        # Three decimals; nothing where an encoder lacks the figure.
        values = [[each.get(name, math.nan) for each in figures] for name in names]
        body = [
            [name, *("" if math.isnan(value) else f"{value:.3f}" for value in line)]
            for name, line in zip(names, values, strict=True)
        ]
        columns = [f"{task} ({evaluator})", *(row.encoder for row in group)]
        layouts.append(Layout(columns, body, ["Numbers as they are, mean over probe seeds."]))
    return layouts
