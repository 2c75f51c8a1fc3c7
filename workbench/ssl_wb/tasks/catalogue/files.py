"""Reading the metadata of a download, with mistakes told by file and line."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ssl_wb.errors import DataError

__all__ = ["base_of", "first_present", "in_line", "part_of_group", "read_lines", "read_table", "walk_audio"]


def base_of(root: Path, marker: str) -> Path:
    """Return the folder that holds ``marker``: the root, or the one folder in it that an archive was unpacked to.

    Raises:
        DataError: there is no such file or folder, or several folders hold one.
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


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as failure:
        raise DataError(f"{path}: cannot be read as text ({failure})") from None


def read_lines(path: Path) -> list[str]:
    """Lines of a text file without empty ones; DataError where it cannot be read."""
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


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
    lines = csv.DictReader(io.StringIO(_text(path), newline=""), delimiter=delimiter, skipinitialspace=True)
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


def in_line(place: str, cell: str, choices: Iterable[str]) -> str:
    """Return ``cell`` where it is one of ``choices``; else DataError that names the place."""
    if cell not in choices:
        raise DataError(f"{place}: {cell!r} is none of {', '.join(choices)}")
    return cell


def first_present(candidates: Sequence[Path]) -> Path:
    """Return the first file that is there, or the first of all where none is."""
    return next((path for path in candidates if path.is_file()), candidates[0])


def walk_audio(root: Path) -> Iterator[Path]:
    """Yield every audio file below a folder, sorted within each folder; hidden ones are left out."""
    from ssl_wb.audio.decode import EXTENSIONS

    for parent, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:  # noqa: PTH122 - speed
                yield Path(parent, name)


def part_of_group(group: str) -> str:
    """Put a group (a speaker, a preset) into train (8 of 10), val or test by a digest of its name.

    The same group lands in the same part on every machine, whatever else is missing from a download.
    """
    number = int.from_bytes(hashlib.sha256(group.encode("utf-8", "surrogateescape")).digest()[:8], "big") % 10
    return {8: "val", 9: "test"}.get(number, "train")
