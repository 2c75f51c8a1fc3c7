"""Manifest CSV files: one clip per line, all mistakes reported at once."""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path

from ssl_wb.api import Clip, ClipSet, DataError, Source, hookimpl, itemise, listing_digest

HINT = (
    "Columns: path (relative to the manifest) and, where wanted, label (a;b), split, fold, group, start, duration, "
    "caption (a|b), caption_embedding (.npy)."
)

log = logging.getLogger("ssl_wb")

#: Columns of other tools' manifests that mean nearly the same as one of ours. They are not read, and without a word the
#: wrong part of a file would be.
MISTAKEN = {
    "offset": "start",
    "begin": "start",
    "onset": "start",
    "start_time": "start",
    "start_seconds": "start",
    "end": "duration",
    "end_time": "duration",
    "end_seconds": "duration",
    "stop": "duration",
    "length": "duration",
    "dur": "duration",
    "seconds": "duration",
    "labels": "label",
    "class": "label",
    "captions": "caption",
    "text": "caption",
    "folds": "fold",
    "subset": "split",
    "partition": "split",
}


class ManifestSource(Source):
    """Lists the clips of a CSV file, one per line.

    UTF-8 with or without byte order mark, with a header. The column ``path`` (relative to the file) is required;
    ``label`` (several separated by ``;``), ``split``, ``fold``, ``group`` (the recording or session a clip is taken
    from: its clips are never on both sides of a split), ``start`` and ``duration`` (seconds), ``caption``
    (alternatives separated by ``|``) and ``caption_embedding`` (a .npy file, relative to the manifest) are optional;
    other columns are ignored.
    """

    name = "manifest"
    specificity = 0  # any table

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether it is a file whose name ends as that of a table, or has no ending."""
        return path.is_file() and path.suffix.lower() in {".csv", ".txt", ""}

    def read(self, place: str, *, folder: Path | None, sample_rate: int) -> ClipSet:
        """List the lines, in their order; all mistakes are reported at once."""
        del folder, sample_rate
        path = Path(place)
        content = path.read_bytes()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}: is not UTF-8 text (byte {error.start})", hint="Save the manifest as UTF-8 CSV."
            ) from error
        rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
        _read_header(path, rows)
        files = _Files(path.parent)
        clips: list[Clip] = []
        mistakes: list[str] = []
        try:
            for row in rows:
                extra = row.pop(None, None)  # DictReader's key for cells beyond the header
                cells = {name: (cell or "").strip() for name, cell in row.items()}
                if not extra and not any(cells.values()):
                    continue  # a line of commas, as spreadsheets leave at the end
                try:
                    if extra:
                        raise ValueError(
                            "more cells than the header has columns; put double quotes around a path, label or "
                            "caption with a comma"
                        )
                    clips.append(_clip(cells, len(clips), files.find))
                except ValueError as mistake:
                    mistakes.append(f"line {rows.line_num}: {mistake}")
        except csv.Error as error:
            mistakes.append(f"line {rows.line_num}: cannot be read as CSV ({error})")
        if mistakes:
            count = f"{len(mistakes)} mistake{'' if len(mistakes) == 1 else 's'}"
            raise DataError(itemise(f"{path}: {count}", mistakes), hint=HINT)
        if not clips:
            raise DataError(f"{path}: the manifest names no clips", hint=HINT)
        # Of the manifest's content and not of its time, so that a copy of it keeps its statistics. Sizes and times of
        # its files count too, because audio may be replaced under the same name.
        digest = hashlib.sha256(content + listing_digest(files.found).encode()).hexdigest()[:32]
        return ClipSet(tuple(clips), path, digest)


@hookimpl
def ssl_wb_sources() -> list[type[Source]]:
    """Register the source of manifests."""
    return [ManifestSource]


class _Files:
    """The files that a manifest names, each looked for once, however many lines name it.

    Args:
        parent: folder of the manifest.
    """

    def __init__(self, parent: Path) -> None:
        self._parent = str(parent)
        self._known: dict[str, Path | None] = {}
        self.found: list[tuple[str, os.stat_result]] = []  # as the manifest names them

    def find(self, name: str) -> Path | None:
        """Return a file by the name that the manifest has for it; None where there is none."""
        if name not in self._known:
            self._known[name] = None
            full = os.path.join(self._parent, name)  # noqa: PTH118 - a Path per line would double the time
            try:
                status = os.stat(full)  # noqa: PTH116
            except (OSError, ValueError):  # no such file; a NUL in the name
                return None
            if stat.S_ISREG(status.st_mode):
                self._known[name] = Path(full)
                self.found.append((name, status))
        return self._known[name]


def _read_header(path: Path, rows: csv.DictReader[str]) -> None:
    """Bring the header's names to lower case; DataError unless ``path`` is among them and no name comes twice."""
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
    for name in header:
        if name in MISTAKEN:
            log.warning("%s: line 1: column %r is not read; did you mean %r?", path, name, MISTAKEN[name])
    rows.fieldnames = header


def _clip(cells: dict[str, str], index: int, find: Callable[[str], Path | None]) -> Clip:
    """Parse one line; ValueError says what is wrong with it.

    Args:
        cells: stripped cells by column.
        index: of the clip within the manifest.
        find: returns the file of a name as the manifest has it, None where there is none.
    """
    if not cells["path"]:
        raise ValueError("no path")
    start, duration = _seconds(cells, "start"), _seconds(cells, "duration")
    if start is not None and start < 0:
        raise ValueError(f"start {start:g} is negative")
    if duration is not None and duration <= 0:
        raise ValueError(f"duration {duration:g} is not above 0")
    found: dict[str, Path | None] = {}
    for column in ("path", "caption_embedding"):
        name = cells.get(column)
        found[column] = find(name) if name else None
        if name and found[column] is None:
            raise ValueError(f"no such file: {name!r}")
    path = found["path"]
    assert path is not None
    return Clip(
        path,
        start or 0.0,
        duration,
        labels=_several(cells, "label", ";"),
        split=cells.get("split") or None,
        fold=cells.get("fold") or None,
        id=index,
        captions=_several(cells, "caption", "|"),
        caption_embedding=found["caption_embedding"],
        group=cells.get("group") or None,
    )


def _several(cells: dict[str, str], column: str, separator: str) -> tuple[str, ...]:
    """Return the values of a cell that may hold several, each once."""
    cell = cells.get(column)
    return tuple(dict.fromkeys(part.strip() for part in cell.split(separator) if part.strip())) if cell else ()


def _seconds(cells: dict[str, str], column: str) -> float | None:
    """Return a finite number of seconds, or None for an empty cell."""
    cell = cells.get(column)
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        raise ValueError(f"{column} {cell!r} is not a number of seconds") from None
    if not math.isfinite(value):
        raise ValueError(f"{column} {cell!r} is not a finite number of seconds")
    return value
