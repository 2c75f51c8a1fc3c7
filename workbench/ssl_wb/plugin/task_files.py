"""Helpers that read the metadata of a downloaded data set; their errors name the file and the line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from ssl_wb.audio.decode import EXTENSIONS
from ssl_wb.errors import DataError

__all__ = [
    "check_cell",
    "dataset_folder",
    "first_existing",
    "part_of_group",
    "read_json",
    "read_lines",
    "read_table",
    "walk_audio",
]


def dataset_folder(root: Path, marker: str) -> Path:
    """Return the folder that contains ``marker``: the root, or the folder in it that an archive was unpacked to.

    Args:
        root: folder of the download.
        marker: path of a file or folder that every copy of the data set has.

    Raises:
        DataError: no folder contains it, or several do.
    """
    if (root / marker).exists():
        return root
    below = [folder for folder in sorted(root.iterdir()) if folder.is_dir() and (folder / marker).exists()]
    if len(below) == 1:
        return below[0]
    if below:
        shown = ", ".join(folder.name for folder in below[:3])
        raise DataError(f"{root}: several folders hold {marker}: {shown}", hint="Give one of them as --root.")
    raise DataError(f"{root}: no {marker} in this folder")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as failure:
        raise DataError(f"{path}: cannot be read as text ({failure})") from None


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, stripped, without empty ones; DataError if it cannot be read."""
    return [line.strip() for line in _read_text(path).splitlines() if line.strip()]


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; DataError if it cannot be read or holds something else."""
    try:
        value = json.loads(_read_text(path))
    except ValueError as failure:
        raise DataError(f"{path}: cannot be read as JSON ({failure})") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds no JSON object")
    return value


def read_table(path: Path, columns: Sequence[str], *, delimiter: str = ",") -> Iterator[tuple[str, dict[str, str]]]:
    """Read a table with a header.

    Args:
        path: the file, UTF-8.
        columns: names that the header must have.
        delimiter: between cells.

    Yields:
        ``(place, row)``: file and line for messages, and the cells by column.

    Raises:
        DataError: the file cannot be read, a column is missing or a line is cut short.
    """
    lines = csv.DictReader(io.StringIO(_read_text(path), newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        absent = [name for name in columns if name not in (lines.fieldnames or ())]
        if absent:
            raise DataError(f"{path}: line 1: no column {absent[0]!r}")
        for row in lines:
            if any(row[name] is None for name in columns):
                raise DataError(f"{path}: line {lines.line_num}: fewer cells than columns; is the file complete?")
            yield f"{path}: line {lines.line_num}", row
    except csv.Error as error:
        raise DataError(f"{path}: line {lines.line_num}: cannot be read as a table ({error})") from None


def check_cell(place: str, cell: str, choices: Collection[str]) -> str:
    """Return ``cell`` if it is one of ``choices``; otherwise raise DataError with its place."""
    if cell not in choices:
        raise DataError(f"{place}: {cell!r} is none of {', '.join(choices)}")
    return cell


def first_existing(candidates: Sequence[Path]) -> Path:
    """Return the first file that exists, or the first of all if none does."""
    return next((path for path in candidates if path.is_file()), candidates[0])


def walk_audio(root: Path) -> Iterator[Path]:
    """Yield every audio file below a folder, sorted within each folder; hidden ones are left out."""
    for parent, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            # A Path for each of two million names would take longer than the walk.
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:  # noqa: PTH122
                yield Path(parent, name)


def part_of_group(group: str) -> str:
    """Return the part of a group of clips (a speaker, a preset): train (8 of 10), val or test.

    The part depends on a hash of the name only. So it is the same on every machine, whatever is missing from a
    download, and a group is never in two parts.
    """
    number = int.from_bytes(hashlib.sha256(group.encode("utf-8", "surrogateescape")).digest()[:8], "big") % 10
    return {8: "val", 9: "test"}.get(number, "train")
