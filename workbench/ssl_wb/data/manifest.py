"""Manifest CSV files: one clip per line, all mistakes told at once."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path

from ssl_wb.audio.clip import Clip
from ssl_wb.errors import DataError

__all__ = ["read_manifest"]

#: Mistakes shown before the rest is only counted.
SHOWN = 10
HINT = (
    "Columns: path (relative to the manifest) and, where wanted, label (a;b), split, fold, start, duration, "
    "caption (a|b), caption_embedding (.npy)."
)


def read_manifest(path: Path) -> tuple[tuple[Clip, ...], bytes]:
    """Read a manifest.

    Args:
        path: a CSV file, UTF-8 with or without byte order mark, with a header.

    Returns:
        The clips in file order, and the file's bytes.

    Raises:
        DataError: the file is not such a CSV, or lines have mistakes.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not UTF-8 text (byte {error.start})", hint="Save the manifest as UTF-8 CSV."
        ) from error
    rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    columns = _columns(path, rows)
    clips: list[Clip] = []
    mistakes: list[str] = []
    present: dict[str, bool] = {}
    try:
        for row in rows:
            if not any(_cell(row, name) for name in columns):
                continue  # a line of commas, as spreadsheets leave at the end
            parsed = _clip(row, path.parent, len(clips), present)
            if isinstance(parsed, Clip):
                clips.append(parsed)
            else:
                mistakes.append(f"line {rows.line_num}: {parsed}")
    except csv.Error as error:
        mistakes.append(f"line {rows.line_num}: cannot be read as CSV ({error})")
    if mistakes:
        raise DataError(_told(path, mistakes), hint=HINT)
    if not clips:
        raise DataError(f"{path}: the manifest names no clips", hint=HINT)
    return tuple(clips), content


def _columns(path: Path, rows: csv.DictReader[str]) -> list[str]:
    """Header names in lower case; DataError unless ``path`` is among them."""
    try:
        header = [name.strip().lower() for name in rows.fieldnames or ()]
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})", hint=HINT) from error
    if not header:
        raise DataError(f"{path}: the manifest is empty", hint=HINT)
    if "path" not in header:
        shown = ", ".join(repr(name[:40]) for name in header[:8])
        raise DataError(f"{path}: line 1: no column 'path' among {shown}", hint=HINT)
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(f"{path}: line 1: column {twice[0]!r} appears twice", hint=HINT)
    rows.fieldnames = header
    return header


def _told(path: Path, mistakes: list[str]) -> str:
    count = len(mistakes)
    lines = [
        f"{path}: {count} mistake{'' if count == 1 else 's'}",
        *(f"  - {line}" for line in mistakes[:SHOWN]),
    ]
    if count > SHOWN:
        lines.append(f"  - and {count - SHOWN} more")
    return "\n".join(lines)


def _cell(row: Mapping[str, str | None], name: str) -> str:
    return (row.get(name) or "").strip()


def _clip(row: dict[str, str | None], folder: Path, index: int, present: dict[str, bool]) -> Clip | str:
    """Parse one line, or say what is wrong with it."""
    if None in row:  # DictReader's key for cells beyond the header
        return "more cells than the header has columns; put double quotes around a path, label or caption with a comma"
    name = _cell(row, "path")
    if not name:
        return "no path"
    start = _number(_cell(row, "start"))
    duration = _number(_cell(row, "duration"))
    if isinstance(start, str):
        return f"start {start}"
    if isinstance(duration, str):
        return f"duration {duration}"
    if start is not None and start < 0:
        return f"start {start:g} is negative"
    if duration is not None and duration <= 0:
        return f"duration {duration:g} is not above 0"
    full = os.path.join(folder, name)  # noqa: PTH118 - a Path per line would double the time
    if full not in present:
        present[full] = _is_file(full)
    if not present[full]:
        return f"no such file: {name!r}"
    embedding = _cell(row, "caption_embedding")
    if embedding and not _is_file(os.path.join(folder, embedding)):  # noqa: PTH118 - as above
        return f"no such file: {embedding!r}"
    return Clip(
        Path(full),
        start or 0.0,
        duration,
        _several(row, "label", ";"),
        _cell(row, "split") or None,
        _cell(row, "fold") or None,
        index,
        _several(row, "caption", "|"),
        folder / embedding if embedding else None,
    )


def _several(row: Mapping[str, str | None], name: str, separator: str) -> tuple[str, ...]:
    """Values of a cell that may hold several, each once."""
    return tuple(dict.fromkeys(value.strip() for value in _cell(row, name).split(separator) if value.strip()))


def _is_file(full: str) -> bool:
    try:
        return os.path.isfile(full)  # noqa: PTH113 - as above
    except ValueError:  # a NUL in the name
        return False


def _number(cell: str) -> float | None | str:
    """A finite number, None for an empty cell, or what is wrong."""
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        return f"{cell!r} is not a number of seconds"
    return value if math.isfinite(value) else f"{cell!r} is not a finite number of seconds"
