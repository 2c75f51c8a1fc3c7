"""Manifests from downloads in their original layout, with counts compared to the published ones."""

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
from ssl_wb.plugin.task import Task, TaskRow

__all__ = ["MadeManifest", "make_manifest", "manifest_columns"]

#: Share of the clips that may be missing before a manifest is refused. Published data sets lose a few files on the way;
#: scores on fewer clips than nine in ten are not comparable with others.
MAX_MISSING = 0.10
#: Missing files named in a message.
SHOWN = 5


@dataclass(frozen=True)
class MadeManifest:
    """What was written.

    Attributes:
        path: the manifest.
        clips: number of clips in it.
        classes: number of distinct labels in it.
        counts: its clips by part or fold.
        missing: number of clips that the metadata lists, or the published counts include, and that are not there.
        remarks: sentences on everything that differs from the published data set.
    """

    path: Path
    clips: int
    classes: int
    counts: dict[str, int]
    missing: int
    remarks: tuple[str, ...]


def manifest_columns(task: Task) -> tuple[str, ...]:
    """Return the columns of the manifest of a task."""
    stretch = ("start", "duration") if task.stretches else ()
    return ("path", "label", "fold" if task.folds else "split", *stretch, "domain", "metric")


def make_manifest(
    task: Task, root: Path, out: Path, *, allow_missing: bool = False, overwrite: bool = False
) -> MadeManifest:
    """Write the manifest of a task from the files of its download.

    Files that are absent, empty or git LFS pointers are left out of the manifest.

    Args:
        task: the data set.
        root: folder of the download.
        out: CSV file to write, whole or not at all; its paths are relative to its folder.
        allow_missing: write even if more than a tenth of the clips is missing.
        overwrite: replace ``out`` if it exists.

    Raises:
        UsageError: ``out`` cannot be written.
        DataError: the metadata is not as expected, no clip is there, or too many are missing.
    """
    if out.suffix.lower() != ".csv":
        raise UsageError(f"{out}: a manifest is a CSV file", hint="end it in .csv")
    if out.is_dir():
        raise UsageError(f"{out} is a folder", hint="name a file")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} is already there", hint="--overwrite replaces it")
    listed = _listed_rows(task, root)
    has_content = [_has_content(row.path) for row in listed]
    present = [row for row, there in zip(listed, has_content, strict=True) if there]
    absent = [row for row, there in zip(listed, has_content, strict=True) if not there]
    remarks = _differences(task, listed, present)
    # Where no list names the training clips, only the published count tells that some are missing.
    expected = max(len(listed), task.known.get("clips", 0))
    missing = expected - len(present)
    if missing:
        remarks = [_missing_remark(absent, missing, expected, root), *remarks]
    if not present or (missing > MAX_MISSING * expected and not allow_missing):
        hint = f"Complete the download ({task.homepage})"
        hint += ", or write what is there with --allow-missing." if present else "."
        raise DataError("\n  - ".join([f"{task.name}: the download at {root} is not complete", *remarks]), hint=hint)
    try:
        write_atomically(out, _manifest_text(task, present, out.parent), sync=False)
    except (OSError, UnicodeEncodeError) as failure:
        reason = getattr(failure, "strerror", None) or failure
        raise UsageError(f"cannot write {out}: {reason}", hint="name another file") from None
    classes = {label for row in present for label in row.labels}
    return MadeManifest(out, len(present), len(classes), dict(_count_parts(present)), missing, tuple(remarks))


def _listed_rows(task: Task, root: Path) -> list[TaskRow]:
    """Return the clips that the metadata lists; a mistake without a hint gets the expected layout as its hint."""
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
    """Whether a file exists and holds audio: broken downloads leave empty files, git without LFS leaves pointers."""
    try:
        size = path.stat().st_size
        # A pointer is about 130 bytes long; larger files are not opened, as there may be two million.
        return size > 0 and not (size < 1024 and path.read_bytes().startswith(b"version https://git-lfs"))
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return False


def _count_parts(rows: Sequence[TaskRow]) -> Counter[str]:
    return Counter(row.part or f"fold {row.fold}" for row in rows)


def _differences(task: Task, listed: Sequence[TaskRow], present: Sequence[TaskRow]) -> list[str]:
    """Return a sentence on each count that differs from the published one."""
    counts = Counter({"clips": len(listed)}) + _count_parts(listed)
    remarks = [
        f"{name}: {counts[name]:,} listed, {number:,} published"
        for name, number in task.known.items()
        if counts[name] != number
    ]
    classes = len({label for row in present for label in row.labels})
    if task.classes is not None and classes != task.classes:
        remarks.append(f"classes: {classes} found, {task.classes} published")
    unlabelled = sum(not row.labels for row in present)
    if unlabelled:
        remarks.append(f"{unlabelled:,} clips carry none of the labels and count as negative for all")
    return remarks


def _missing_remark(absent: Sequence[TaskRow], missing: int, expected: int, root: Path) -> str:
    text = f"{missing:,} of {expected:,} clips are missing ({100 * missing / expected:.1f} %)"
    if absent:
        names = ", ".join(_relative_path(row.path, root) for row in absent[:SHOWN])
        more = f" and {len(absent) - SHOWN:,} more" if len(absent) > SHOWN else ""
        text += f"; absent, empty or git LFS pointers: {names}{more}"
    return text


def _relative_path(path: Path, start: Path) -> str:
    """Return the path from a folder, with '/' on every system; the absolute path on another drive."""
    return _relative_folder(path.parent, start) + path.name


@lru_cache(maxsize=4096)  # clips share folders, and there may be two million of them
def _relative_folder(folder: Path, start: Path) -> str:
    try:
        relative = Path(os.path.relpath(folder.absolute(), start.absolute())).as_posix()
    except ValueError:
        relative = folder.absolute().as_posix()
    return "" if relative == "." else f"{relative}/"


def _manifest_text(task: Task, rows: Sequence[TaskRow], folder: Path) -> str:
    """Return the manifest, in the order of the metadata."""
    text = io.StringIO()
    writer = csv.DictWriter(text, manifest_columns(task), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {
                "path": _relative_path(row.path, folder),
                "label": ";".join(row.labels),
                "split": row.part,
                "fold": row.fold,
                "start": None if row.start is None else f"{row.start:g}",
                "duration": None if row.duration is None else f"{row.duration:g}",
                "domain": task.domain,
                "metric": task.metric,
            }
        )
    return text.getvalue()
