"""Tables of probe results: rows are encoders, columns are tasks, cells in per cent with their interval.

Where tasks have domains, columns are grouped by them, as in Table I of DWM (arXiv 2603.23810): the domain's tasks,
their average where there are two or more, and the average of all tasks at the end.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssl_wb.evaluation.compare import AVERAGE, Difference, average, average_name, averaged, compare
from ssl_wb.evaluation.results import Row
from ssl_wb.report.details import lay_out_details
from ssl_wb.report.domain_order import in_order
from ssl_wb.report.layout import Layout
from ssl_wb.report.notes import notes_of, pools_of

__all__ = [
    "Layout",
    "as_csv",
    "draw",
    "lay_out",
    "lay_out_differences",
    "lay_out_seconds",
    "layout_markdown",
    "markdown",
    "print_table",
]


class _Column(NamedTuple):
    """A task, or the average of several, by one evaluator."""

    task: str
    evaluator: str
    domain: str | None = None

    @property
    def is_average(self) -> bool:
        return self.task == average_name(self.domain)


def cell(row: Row) -> str:
    """Write a result as ``71.2 ±0.4 (68.0-74.1)``: per cent, standard deviation over seeds, 95 % interval."""
    result = row.result
    text = _number(result.mean, percent=result.percent)
    if not math.isnan(result.std):
        text += f" ±{_number(result.std, percent=result.percent)}"
    low, high = (_number(edge, percent=result.percent) for edge in result.interval)
    return f"{text} ({low}-{high})" if low and high else text


def _number(value: float, *, percent: bool, sign: str = "") -> str:
    """Write a score with one digit if in per cent, else two; nothing for NaN."""
    if math.isnan(value):
        return ""
    return format(100 * value, f"{sign}.1f") if percent else format(value, f"{sign}.2f")


def _columns(rows: Sequence[Row]) -> list[_Column]:
    """Return tasks and averages: domain by domain, in order of appearance within each, then tasks without a domain.

    Averages follow their tasks. The average of all tasks is left out where it equals a domain's.
    """
    tasks = list(dict.fromkeys(_Column(row.task, row.evaluator, row.domain) for row in rows))
    evaluators = list(dict.fromkeys(row.evaluator for row in rows))
    domains = in_order(row.domain for row in rows)
    columns: list[_Column] = []
    for domain in domains:
        columns += [column for column in tasks if column.domain == domain]
        columns += [_Column(average_name(domain), one, domain) for one in evaluators if averaged(rows, one, domain)]
    columns += [column for column in tasks if column.domain is None]
    for one in evaluators:
        every = averaged(rows, one)
        if every and every not in [averaged(rows, one, domain) for domain in domains]:
            columns.append(_Column(AVERAGE, one))
    return columns


def _headings(rows: Sequence[Row], columns: Sequence[_Column]) -> list[str]:
    metrics = {(row.task, row.evaluator): row.result.metric for row in rows}
    headings = ["encoder"]
    for column in columns:
        metric = metrics.get((column.task, column.evaluator))
        name = AVERAGE if column.is_average else column.task  # the domain stands above
        headings.append(f"{name} ({column.evaluator}{'' if metric is None else f', {metric}'})")
    return headings


def _groups(columns: Sequence[_Column]) -> list[str]:
    """Return the domain of each column, "" for the first, the encoders; an empty list if no task has a domain."""
    groups = ["", *(column.domain or "" for column in columns)]
    return groups if any(groups) else []


def lay_out(rows: Sequence[Row], differences: Mapping[tuple[str, str, str], Difference] | None = None) -> Layout:
    """Arrange results: one row per encoder in order of appearance, one column per task and evaluator.

    Args:
        rows: results.
        differences: to a baseline, to mark the cells that differ significantly.
    """
    columns, pools = _columns(rows), pools_of(rows)
    cells = {(row.encoder, row.task, row.evaluator): cell(row) for row in rows}
    body = []
    for encoder in dict.fromkeys(row.encoder for row in rows):
        line = [encoder, pools[encoder]] if pools else [encoder]
        for column in columns:
            key = (encoder, column.task, column.evaluator)
            text = cells.get(key, "")
            if key not in cells and column.is_average:
                text = _number(average(rows, encoder, column.evaluator, column.domain), percent=True)
            found = (differences or {}).get(key)
            line.append(f"{text} *" if text and found and found.significant else text)
        body.append(line)
    chance = {(row.task, row.evaluator): _number(row.chance, percent=row.result.percent) for row in rows}
    body.append(["chance", *([""] if pools else []), *(chance.get(column[:2], "") for column in columns)])
    headings, groups = _headings(rows, columns), _groups(columns)
    if pools:
        headings.insert(1, "pooling")
        groups = groups[:1] + groups  # none above the pooling
    return Layout(headings, body, notes_of(rows), groups)


def lay_out_differences(rows: Sequence[Row], baseline: str) -> Layout:
    """Arrange the differences of all other encoders to a baseline.

    Raises:
        UsageError: no row is named so.
    """
    found = compare(rows, baseline)
    columns = [column for column in _columns(rows) if any(key[1:] == column[:2] for key in found)]
    percent = {(row.task, row.evaluator): row.result.percent for row in rows}
    body = []
    for encoder in dict.fromkeys(row.encoder for row in rows if row.encoder != baseline):
        line = [encoder]
        for column in columns:
            one = found.get((encoder, *column[:2]))
            if one is None:
                line.append("")
                continue
            in_percent = percent.get(column[:2], True)
            mean, low, high = (_number(value, percent=in_percent, sign="+") for value in (one.mean, *one.interval))
            line.append(f"{mean} ({low} to {high}){' *' if one.significant else ''}")
        body.append(line)
    headings = _headings(rows, columns)
    headings[0] = f"minus {baseline}"
    notes = [
        "Points; in brackets the 95 % interval of the paired difference over test clips; * where it leaves out 0 "
        "(each comparison by itself)."
    ]
    shown = {column[:2] for column in columns}
    if missing := list(dict.fromkeys(row.evaluator for row in rows if (row.task, row.evaluator) not in shown)):
        notes.append(f"No difference, for want of scores per clip or of a row to compare with: {', '.join(missing)}.")
    return Layout(headings, body, notes, _groups(columns))


def lay_out_seconds(rows: Sequence[Row]) -> Layout:
    """Arrange the seconds that each result took."""
    body = []
    for row in rows:
        cost = row.seconds
        speed = "kept" if cost.cached else ("" if math.isnan(cost.speed) else f"{cost.speed:.0f}")
        seconds = [f"{value:.2f}" for value in (cost.embedding, cost.probe)]
        body.append([row.encoder, row.task, row.evaluator, *seconds, speed])
    headings = ["encoder", "task", "evaluator", "embedding s", "probe s", "x real time"]
    return Layout(headings, body, ["Evaluators of one level share one embedding, listed with each."])


def as_csv(rows: Sequence[Row], baseline: str | None = None, *, details: bool = False) -> str:
    """Return one line per encoder, task and evaluator, scores as fractions (accuracy 0 to 1).

    Where tasks have domains, there is a column of them, an encoder's lines are grouped by domain, and averages have
    lines. With details, further figures have lines of their own after their score.

    Raises:
        UsageError: no row is named as the baseline.
    """
    differences = compare(rows, baseline) if baseline is not None else {}
    further = {(row.encoder, row.task, row.evaluator): row.result.table for row in rows} if details else {}
    grouped = any(row.domain is not None for row in rows)
    text = io.StringIO()
    columns = [
        *("encoder", "role", "task"),
        *(["domain"] if grouped else []),
        *("evaluator", "metric", "mean", "std", "low", "high", "chance", "seeds"),
        *(["baseline", "difference", "difference_low", "difference_high", "significant"] if baseline else []),
        "pool",
    ]
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for task, line in _csv_lines(rows, grouped=grouped):
        key = (line["encoder"], task, line["evaluator"])
        compared = {} if baseline is None else {"baseline": baseline}
        if found := differences.get(key):
            numbers = map(_exact, (found.mean, *found.interval))
            compared |= dict(zip(("difference", "difference_low", "difference_high"), numbers, strict=True))
            compared["significant"] = str(found.significant)
        writer.writerow({**line, **compared})
        place = {name: line[name] for name in columns[: columns.index("metric")]}
        writer.writerows(
            {**place, "metric": name, "mean": _exact(value)} for name, value in further.get(key, {}).items()
        )
    return text.getvalue()


def _csv_lines(rows: Sequence[Row], *, grouped: bool) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield a task, or the name of an average, and its line: encoder by encoder where grouped, else row by row."""
    if not grouped:
        yield from ((row.task, _csv_line(row)) for row in rows)
        return
    known = {(row.encoder, row.task, row.evaluator): row for row in rows}
    columns = _columns(rows)
    for encoder, role in dict.fromkeys((row.encoder, row.role) for row in rows):
        for column in columns:
            domain = {"domain": column.domain or ""}
            row = known.get((encoder, column.task, column.evaluator))
            if row is not None:
                yield row.task, {**_csv_line(row), **domain}
            elif column.is_average:
                mean = _exact(average(rows, encoder, column.evaluator, column.domain))
                line = {"encoder": encoder, "role": role, "task": AVERAGE, "evaluator": column.evaluator, "mean": mean}
                if mean:  # "" where the encoder lacks one of the tasks
                    yield column.task, {**line, **domain}


def _csv_line(row: Row) -> dict[str, str]:
    result = row.result
    numbers = {"mean": result.mean, "std": result.std, "low": result.interval[0], "high": result.interval[1]}
    return {
        "encoder": row.encoder,
        "role": row.role,
        "task": row.task,
        "evaluator": row.evaluator,
        "pool": row.pool or "",
        "metric": result.metric,
        "chance": _exact(row.chance),
        "seeds": str(len(result.per_seed)),
        **{name: _exact(value) for name, value in numbers.items()},
    }


def _exact(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def markdown(rows: Sequence[Row], baseline: str | None = None, *, details: bool = False) -> str:
    """Return Markdown: the table, one of differences if there is a baseline, and further figures if wanted.

    Raises:
        UsageError: no row is named as the baseline.
    """
    return "\n\n".join(map(layout_markdown, _layouts(rows, baseline, details=details)))


def _layouts(rows: Sequence[Row], baseline: str | None, *, details: bool) -> list[Layout]:
    further = lay_out_details(rows) if details else []
    if baseline is None:
        return [lay_out(rows), *further]
    return [lay_out(rows, compare(rows, baseline)), lay_out_differences(rows, baseline), *further]


def layout_markdown(layout: Layout) -> str:
    """Return one table in Markdown, its notes below."""
    alignment = "| --- |" + " ---: |" * (len(layout.columns) - 1)
    # Markdown allows one line of headings. If it holds the domains, the tasks are the first line below, in bold.
    heads = [_line(layout.group_headings()), alignment, _line(layout.columns, mark="**")] if layout.groups else []
    lines = [*(heads or [_line(layout.columns), alignment]), *map(_line, layout.rows), "", layout.notes[0]]
    if len(layout.notes) > 1:
        lines += ["", *(f"- {note}" for note in layout.notes[1:])]
    return "\n".join(lines)


def _line(cells: Sequence[str], mark: str = "") -> str:
    safe = [cell.replace("|", "\\|").replace("*", "\\*") for cell in cells]
    return "| " + " | ".join(f"{mark}{cell}{mark}" for cell in safe) + " |"


def print_table(
    rows: Sequence[Row],
    console: Console | None = None,
    *,
    baseline: str | None = None,
    details: bool = False,
    timing: bool = False,
) -> None:
    """Print the table; where the output is no terminal, without wrapping.

    Args:
        rows: results.
        console: where to print; stdout unless given.
        baseline: row to compare the others with, in a second table.
        details: print further figures of each task and evaluator, in tables of their own.
        timing: print the seconds that each result took, in a last table.

    Raises:
        UsageError: no row is named as the baseline.
    """
    console = console or Console()
    for layout in [*_layouts(rows, baseline, details=details), *([lay_out_seconds(rows)] if timing else [])]:
        draw(layout, console)
    further = dict.fromkeys(row.evaluator for row in rows if row.result.table)
    if further and not details:
        console.print(f"Further figures of {', '.join(further)}: --details.", highlight=False, markup=False)


def draw(layout: Layout, console: Console) -> None:
    """Print one table and its notes; where the output is no terminal, without wrapping."""
    groups = layout.group_headings()
    lines = [*([groups] if groups else []), layout.columns, *layout.rows]
    # No number is cut: a column is at least as wide as its longest word. Where the terminal is narrower than that, the
    # table is as wide as it has to be, and the terminal breaks its lines.
    words = [max(len(word) for line in lines for word in line[i].split() or [""]) for i in range(len(layout.columns))]
    least = sum(words) + 3 * len(words)
    plain = "±".encode(console.encoding, "ignore") == b""  # an ASCII terminal
    if not console.is_terminal:
        widest = sum(max(len(line[i]) for line in lines) + 3 for i in range(len(layout.columns)))
        console = Console(file=console.file, width=max(80, widest, *(len(note) + 1 for note in layout.notes)))
    elif least > console.width:
        console = Console(file=console.file, force_terminal=True, width=least)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(layout.columns):
        above = f"{groups[number]}\n" if groups else ""
        table.add_column(Text(above + heading), justify="right" if number else "left", min_width=words[number])
    for cells in layout.rows:
        table.add_row(
            *(Text(cell.replace("±", "+-") if plain else cell) for cell in cells)
        )  # as Text: rich would read "[...]" in a name as markup
    console.print(table)
    for note in layout.notes:
        console.print(note.replace("±", "+-") if plain else note, highlight=False, markup=False)
