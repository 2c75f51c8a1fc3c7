"""From a download in its original layout to a manifest, with counts checked on the way."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ssl_wb.errors import DataError, UsageError
from ssl_wb.files import write_atomically
from ssl_wb.tasks.catalogue.description import Row, TaskDescription

__all__ = ["Made", "make_manifest"]

#: Share of the clips that may be missing before a manifest is refused.
MISSING = 0.10
#: Missing files named in a message.
SHOWN = 5
#: How a git LFS pointer begins.
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Made:
    """What was written.

    Attributes:
        path: the manifest.
        clips: clips in it.
        classes: distinct labels in it.
        counts: its clips by part or fold.
        missing: clips that the metadata lists, or the published counts promise, and that are not there.
        remarks: sentences on all that differs from what is known of the data set.
    """

    path: Path
    clips: int
    classes: int
    counts: dict[str, int]
    missing: int
    remarks: tuple[str, ...]


def make_manifest(
    task: TaskDescription, root: Path, out: Path, *, allow_missing: bool = False, overwrite: bool = False
) -> Made:
    """Write the manifest of a task from the files of its download.

    Files that are absent, empty or git LFS pointers are left out of the manifest.

    Args:
        task: what to expect.
        root: folder of the download.
        out: CSV file to write, whole or not at all; its paths are relative to its folder.
        allow_missing: write even where more than a tenth of the clips is missing.
        overwrite: replace ``out`` if it is there.

    Raises:
        UsageError: ``out`` cannot be written.
        DataError: the metadata is not as expected, no clip is there, or too many are missing.
    """
    _check_out(out, overwrite=overwrite)
    listed = _read(task, root)
    present = [row for row in listed if _has_content(row.path)]
    remarks = _compare(task, listed, present)
    expected = max(len(listed), task.known.get("clips", 0))
    missing = expected - len(present)
    if missing:
        remarks = [_tell_missing(listed, present, expected, root), *remarks]
    if not present or (missing > MISSING * expected and not allow_missing):
        hint = f"Complete the download ({task.homepage})"
        hint += ", or write what is there with --allow-missing." if present else "."
        raise DataError("\n  - ".join([f"{task.name}: the download at {root} is not complete", *remarks]), hint=hint)
    _write(out, _table(task, present, out.parent))
    labels = {label for row in present for label in row.labels}
    return Made(out, len(present), len(labels), dict(_by_part(present)), missing, tuple(remarks))


def _check_out(out: Path, *, overwrite: bool) -> None:
    if out.suffix.lower() != ".csv":
        raise UsageError(f"{out}: a manifest is a CSV file", hint="end it in .csv")
    if out.is_dir():
        raise UsageError(f"{out} is a folder", hint="name a file")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} is already there", hint="--overwrite replaces it")


def _read(task: TaskDescription, root: Path) -> list[Row]:
    """List the clips; every mistake gets the expected layout as its hint."""
    hint = f"{task.name} expects below --root: {'; '.join(task.layout)}. Get it at {task.homepage}"
    if not root.is_dir():
        raise DataError(f"{root}: no such folder", hint=hint)
    try:
        listed = task.rows(root)
    except DataError as error:
        raise DataError(error.message, hint=error.hint or hint) from None
    except OSError as failure:
        raise DataError(f"{root}: cannot be read ({failure})", hint=hint) from None
    if not listed:
        raise DataError(f"{root}: no clips of {task.name} in this folder", hint=hint)
    return listed


def _has_content(path: Path) -> bool:
    """Whether a file is there and has content.

    Broken downloads leave files of no length, and a git clone without LFS leaves pointers.
    """
    try:
        size = path.stat().st_size
        return size > 0 and not (size < 1024 and path.read_bytes().startswith(_POINTER))
    except (OSError, ValueError):
        return False


def _by_part(rows: Sequence[Row]) -> Counter[str]:
    return Counter(row.part or f"fold {row.fold}" for row in rows)


def _compare(task: TaskDescription, listed: Sequence[Row], present: Sequence[Row]) -> list[str]:
    """Say where counts differ from the published ones."""
    counts = Counter({"clips": len(listed)}) + _by_part(listed)
    remarks = [
        f"{name}: {counts[name]:,} listed, {number:,} published"
        for name, number in task.known.items()
        if counts[name] != number
    ]
    classes = len({label for row in present for label in row.labels})
    if task.classes is not None and classes != task.classes:
        remarks.append(f"classes: {classes} found, {task.classes} published")
    bare = sum(not row.labels for row in present)
    if bare:
        remarks.append(f"{bare:,} clips carry none of the labels and count as negative for all")
    return remarks


def _tell_missing(listed: Sequence[Row], present: Sequence[Row], expected: int, root: Path) -> str:
    missing = expected - len(present)
    text = f"{missing:,} of {expected:,} clips are missing ({100 * missing / expected:.1f} %)"
    absent = len(listed) - len(present)
    if absent:
        there = set(map(id, present))
        names = [_relative(row.path, root) for row in listed if id(row) not in there][:SHOWN]
        more = f" and {absent - len(names):,} more" if absent > len(names) else ""
        text += f"; absent, empty or git LFS pointers: {', '.join(names)}{more}"
    return text


def _relative(path: Path, folder: Path) -> str:
    """Return the path from ``folder``, with '/', or as it is on another drive."""
    return _relative_folder(path.parent, folder) + path.name


@lru_cache(maxsize=4096)  # clips share folders, and there may be two million of them
def _relative_folder(folder: Path, start: Path) -> str:
    try:
        relative = Path(os.path.relpath(folder.absolute(), start.absolute())).as_posix()
    except ValueError:
        relative = folder.absolute().as_posix()
    return "" if relative == "." else f"{relative}/"


def _table(task: TaskDescription, rows: Sequence[Row], folder: Path) -> str:
    """Write the manifest's text, in the order of the metadata."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(task.columns)
    for row in rows:
        cells = {
            "path": _relative(row.path, folder),
            "label": ";".join(row.labels),
            "split": row.part,
            "fold": row.fold,
            "start": None if row.start is None else f"{row.start:g}",
            "duration": None if row.duration is None else f"{row.duration:g}",
            "domain": task.domain,
            "metric": task.metric,
        }
        writer.writerow([cells[column] for column in task.columns])
    return text.getvalue()


def _write(out: Path, text: str) -> None:
    try:
        write_atomically(out, text)
    except (OSError, UnicodeEncodeError) as failure:
        reason = getattr(failure, "strerror", None) or failure
        raise UsageError(f"cannot write {out}: {reason}", hint="name another file") from None
