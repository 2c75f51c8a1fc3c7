"""Tables of probe results: rows are encoders, columns are tasks, cells in per cent with their interval."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssl_wb.evaluate.compare import AVERAGE, Difference, average, averaged, compare
from ssl_wb.evaluate.runner import Row

__all__ = ["Layout", "as_csv", "lay_out", "lay_out_differences", "lay_out_seconds", "markdown", "print_table"]


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
    """Write a result as ``71.2 ±0.4 (68.0-74.1)``: per cent, spread over seeds, the 95 % interval."""
    result = row.result
    text = _number(result.mean, percent=result.percent)
    if not math.isnan(result.std):
        text += f" ±{_number(result.std, percent=result.percent)}"
    low, high = (_number(edge, percent=result.percent) for edge in result.interval)
    return f"{text} ({low}-{high})" if low and high else text


def _number(value: float, *, percent: bool, sign: str = "") -> str:
    """Write a score with one digit in per cent, two otherwise; nothing for NaN."""
    if math.isnan(value):
        return ""
    return format(100 * value, f"{sign}.1f") if percent else format(value, f"{sign}.2f")


def _columns(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return task and evaluator of every column in order of appearance, each evaluator's average after its last."""
    columns = list(dict.fromkeys((row.task, row.evaluator) for row in rows))
    for evaluator in dict.fromkeys(name for _, name in columns):
        if averaged(rows, evaluator):
            columns.append((AVERAGE, evaluator))
    return columns


def _headings(rows: Sequence[Row], columns: Sequence[tuple[str, str]]) -> list[str]:
    metrics = {(row.task, row.evaluator): row.result.metric for row in rows}
    headings = ["encoder"]
    for task, evaluator in columns:
        told = f", {metrics[task, evaluator]}" if (task, evaluator) in metrics else ""
        headings.append(f"{task} ({evaluator}{told})")
    return headings


def lay_out(rows: Sequence[Row], differences: Mapping[tuple[str, str, str], Difference] | None = None) -> Layout:
    """Arrange results: one row per encoder in order of appearance, one column per task and evaluator.

    Args:
        rows: results.
        differences: to a baseline, to mark cells that differ from it.
    """
    columns = _columns(rows)
    cells = {(row.encoder, row.task, row.evaluator): cell(row) for row in rows}
    body = []
    for encoder in dict.fromkeys(row.encoder for row in rows):
        line = [encoder]
        for task, evaluator in columns:
            key = (encoder, task, evaluator)
            text = cells.get(key, "")
            if key not in cells and task == AVERAGE:
                text = _number(average(rows, encoder, evaluator), percent=True)
            line.append(text + (f" {_mark(found)}" if (found := (differences or {}).get(key)) and text else ""))
        body.append([part.rstrip() for part in line])
    chance = {(row.task, row.evaluator): _number(row.chance, percent=row.result.percent) for row in rows}
    body.append(["chance", *(chance.get(column, "") for column in columns)])
    return Layout(_headings(rows, columns), body, _notes(rows))


def _mark(found: Difference) -> str:
    return "*" if found.significant else ""


def _notes(rows: Sequence[Row]) -> list[str]:
    """What the reader has to know, each thing once."""
    seeds = max((len(row.result.per_seed) for row in rows), default=0)
    spread = f"{seeds} probe seeds ± their standard deviation" if seeds > 1 else "1 probe seed"
    notes = [f"Per cent, mean over {spread}; in brackets the 95 % interval over test clips."]
    plain = list(dict.fromkeys(row.result.metric for row in rows if not row.result.percent))
    falling = list(dict.fromkeys(row.result.metric for row in rows if not row.result.higher))
    if plain:
        notes.append(f"Not in per cent: {', '.join(plain)}.")
    if falling:
        notes.append(f"Less is better: {', '.join(falling)}.")
    for evaluator in dict.fromkeys(row.evaluator for row in rows):
        tasks = {row.task for row in rows if row.evaluator == evaluator}
        left = sorted(tasks - set(averaged(rows, evaluator))) if averaged(rows, evaluator) else []
        if left:
            notes.append(f"Not in the average of {evaluator}: {', '.join(left)}.")
    for row in rows:
        notes += [f"{row.task}: {note}" for note in row.result.notes]
    return list(dict.fromkeys(notes))


def lay_out_differences(rows: Sequence[Row], baseline: str) -> Layout:
    """Arrange the differences of all other encoders to one of them.

    Raises:
        UsageError: no row is named so.
    """
    found = compare(rows, baseline)
    columns = [column for column in _columns(rows) if any(key[1:] == column for key in found)]
    percent = {(row.task, row.evaluator): row.result.percent for row in rows}
    body = []
    for encoder in dict.fromkeys(row.encoder for row in rows if row.encoder != baseline):
        line = [encoder]
        for column in columns:
            one = found.get((encoder, *column))
            line.append("" if one is None else _difference(one, percent=percent.get(column, True)))
        body.append(line)
    headings = _headings(rows, columns)
    headings[0] = f"minus {baseline}"
    notes = [
        "Points; in brackets the 95 % interval of the paired difference over test clips; * where it leaves out 0 "
        "(each comparison by itself)."
    ]
    if missing := list(dict.fromkeys(row.evaluator for row in rows if (row.task, row.evaluator) not in columns)):
        notes.append(f"No difference, for want of scores per clip or of a row to compare with: {', '.join(missing)}.")
    return Layout(headings, body, notes)


def _difference(found: Difference, *, percent: bool) -> str:
    """Write ``+5.1 (+2.0 to +8.1) *``."""
    mean, low, high = (_number(value, percent=percent, sign="+") for value in (found.mean, *found.interval))
    return f"{mean} ({low} to {high}) {_mark(found)}".rstrip()


def lay_out_seconds(rows: Sequence[Row]) -> Layout:
    """Arrange what every row cost."""
    body = []
    for row in rows:
        cost = row.seconds
        speed = "kept" if cost.cached else ("" if math.isnan(cost.speed) else f"{cost.speed:.0f}")
        seconds = [f"{value:.2f}" for value in (cost.embedding, cost.probe)]
        body.append([row.encoder, row.task, row.evaluator, *seconds, speed])
    headings = ["encoder", "task", "evaluator", "embedding s", "probe s", "x real time"]
    return Layout(headings, body, ["Evaluators of one level share one embedding, told on each of their lines."])


def as_csv(rows: Sequence[Row], baseline: str | None = None) -> str:
    """Return one line per encoder, task and evaluator, scores as they are (accuracy 0 to 1).

    Raises:
        UsageError: no row is named as the baseline.
    """
    found = compare(rows, baseline) if baseline is not None else {}
    names = ["encoder", "role", "task", "evaluator", "metric", "mean", "std", "low", "high", "chance", "seeds"]
    if baseline is not None:
        names += ["baseline", "difference", "difference_low", "difference_high", "significant"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        result = row.result
        numbers = [result.mean, result.std, *result.interval, row.chance]
        line = [row.encoder, row.role, row.task, row.evaluator, result.metric, *map(_exact, numbers)]
        line.append(str(len(result.per_seed)))
        if baseline is not None:
            one = found.get((row.encoder, row.task, row.evaluator))
            told = ["", "", "", ""] if one is None else [*map(_exact, (one.mean, *one.interval)), str(one.significant)]
            line += [baseline, *told]
        writer.writerow(line)
    return text.getvalue()


def _exact(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def markdown(rows: Sequence[Row], baseline: str | None = None) -> str:
    """Return the table for a README, and one of differences where there is a baseline.

    Raises:
        UsageError: no row is named as the baseline.
    """
    layouts = _layouts(rows, baseline)
    return "\n\n".join(map(_markdown, layouts))


def _layouts(rows: Sequence[Row], baseline: str | None) -> list[Layout]:
    if baseline is None:
        return [lay_out(rows)]
    return [lay_out(rows, compare(rows, baseline)), lay_out_differences(rows, baseline)]


def _markdown(layout: Layout) -> str:
    alignment = "| --- |" + " ---: |" * (len(layout.columns) - 1)
    lines = [_line(layout.columns), alignment, *map(_line, layout.rows), "", layout.notes[0]]
    if len(layout.notes) > 1:
        lines += ["", *(f"- {note}" for note in layout.notes[1:])]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("*", "\\*") for cell in cells) + " |"


def print_table(
    rows: Sequence[Row], console: Console | None = None, *, baseline: str | None = None, timing: bool = False
) -> None:
    """Draw the table on stdout, wide enough not to wrap where stdout is no terminal.

    Args:
        rows: results.
        console: where to; stdout.
        baseline: name of the row to compare the others with, in a second table.
        timing: tell what every row cost, in a last table.

    Raises:
        UsageError: no row is named as the baseline.
    """
    console = console or Console()
    for layout in [*_layouts(rows, baseline), *([lay_out_seconds(rows)] if timing else [])]:
        _draw(layout, console)


def _draw(layout: Layout, console: Console) -> None:
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
