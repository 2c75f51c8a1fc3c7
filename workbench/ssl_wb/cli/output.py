"""Output on stdout: drawn tables on a terminal, aligned text in a pipe, JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import typer

__all__ = ["JsonFlag", "echo_json", "echo_table"]

#: The option ``--json`` of every command that lists something.
JsonFlag = typer.Option("--json", help="Print JSON.")


def echo_json(value: Any) -> None:
    """Print ``value`` as indented JSON; a file name's bytes that are not UTF-8 become escapes, as JSON allows."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    typer.echo(text.encode("utf-8", "backslashreplace").decode())


def echo_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, optional: Sequence[str] = ()) -> None:
    """Print a table: drawn on a terminal, else as aligned lines that never wrap.

    Args:
        columns: headings.
        rows: one text per column, for each row.
        optional: columns that a terminal leaves out, one after the other, until the table fits its width.
    """
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        for name in optional:
            widest = [max(len(row[place]) for row in (columns, *rows)) + 2 for place in range(len(columns))]
            if sum(widest) <= width:
                break
            place = list(columns).index(name)
            columns, *rows = [[*row[:place], *row[place + 1 :]] for row in (columns, *rows)]
        _draw(columns, rows)
        return
    cells = [[" ".join(cell.split()) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(columns))]
    for row in cells:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=SIMPLE, pad_edge=False)
    # On a narrow terminal all columns but the first wrap. If more of them were fixed, rich would drop the last.
    table.columns[0].no_wrap = True
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
