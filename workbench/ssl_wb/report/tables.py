"""Tables of probe results: rows are encoders, columns are tasks, cells in per cent with their interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssl_wb.evaluate.runner import Row

__all__ = ["Layout", "lay_out", "markdown", "print_table"]


@dataclass(frozen=True)
class Layout:
    """A table as text.

    Attributes:
        columns: headings, the first one for the encoders' names.
        rows: cells of each row.
        notes: lines below the table.
    """

    columns: list[str]
    rows: list[list[str]]
    notes: list[str]


def cell(row: Row) -> str:
    """Write a result as ``71.2 (68.0-74.1)``: per cent and the 95 % interval."""
    low, high = row.result.interval
    return f"{100 * row.result.mean:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def lay_out(rows: Sequence[Row]) -> Layout:
    """Arrange results: one row per encoder in order of appearance, one column per task and evaluator."""
    encoders = list(dict.fromkeys(row.encoder for row in rows))
    columns = list(dict.fromkeys((row.task, row.evaluator) for row in rows))
    cells = {(row.encoder, row.task, row.evaluator): cell(row) for row in rows}
    metrics = {(row.task, row.evaluator): row.result.metric for row in rows}
    chance = {(row.task, row.evaluator): row.chance for row in rows}
    body = [[encoder, *(cells.get((encoder, *column), "") for column in columns)] for encoder in encoders]
    body.append(["chance", *(f"{100 * chance[column]:.1f}" for column in columns)])
    headings = [f"{task} ({evaluator}, {metrics[task, evaluator]})" for task, evaluator in columns]
    seeds = max((len(row.result.per_seed) for row in rows), default=0)
    plural = "" if seeds == 1 else "s"
    notes = [f"Per cent, mean over {seeds} probe seed{plural}; in brackets the 95 % interval over test clips."]
    for row in rows:
        notes += [f"{row.task}: {note}" for note in row.result.notes]
    return Layout(["encoder", *headings], body, list(dict.fromkeys(notes)))


def markdown(rows: Sequence[Row]) -> str:
    """Return the table for a README."""
    layout = lay_out(rows)
    alignment = "| --- |" + " ---: |" * (len(layout.columns) - 1)
    lines = [_line(layout.columns), alignment, *map(_line, layout.rows), "", layout.notes[0]]
    if len(layout.notes) > 1:
        lines += ["", *(f"- {note}" for note in layout.notes[1:])]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def print_table(rows: Sequence[Row], console: Console | None = None) -> None:
    """Draw the table on stdout, wide enough not to wrap where stdout is no terminal."""
    layout = lay_out(rows)
    console = console or Console()
    if not console.is_terminal:
        widest = sum(
            max(len(line[i]) for line in [layout.columns, *layout.rows]) + 3 for i in range(len(layout.columns))
        )
        console = Console(file=console.file, width=max(80, widest, *(len(note) + 1 for note in layout.notes)))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(layout.columns):
        table.add_column(Text(heading), justify="right" if number else "left")
    for cells in layout.rows:
        table.add_row(*map(Text, cells))  # as Text, because a name may hold what rich takes for markup
    console.print(table)
    for note in layout.notes:
        console.print(note, highlight=False, markup=False)
