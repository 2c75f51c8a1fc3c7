"""Embeddings in a ``.npy`` file that is written clip by clip: little memory, and an interrupted run can go on.

The finished file can be opened with ``numpy.load(FILE, mmap_mode="r")``; ``FILE.csv`` beside it has a line for each
row.
Until then rows stand in hidden files, with a journal of the clips that are complete.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssl_wb.encoder.files import EmbeddedClip, utf8
from ssl_wb.errors import UsageError

__all__ = ["RowStore"]


def header_of(rows: int, width: int) -> bytes:
    """Return the header of a ``.npy`` file of float32 ``[rows, width]``; its length does not depend on the rows."""
    written = io.BytesIO()
    shape: dict[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
    np.lib.format.write_array_header_1_0(written, shape)
    return written.getvalue()


class RowStore:
    """Writes rows of embeddings into files that become ``out`` and its table at the end.

    Args:
        out: the ``.npy`` file.
        settings: everything that the rows depend on; going on needs the same.
        resume: go on where an earlier run with these settings stopped; start anew where there was none.

    Attributes:
        done: clips that are complete, those that could not be read among them.
        skipped: one message for each clip that could not be read.
        rows: rows written.
        width: of a row; 0 before the first.

    Raises:
        UsageError: what is to be resumed was made with other settings, or is damaged.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], *, resume: bool = False) -> None:
        self.out, self.table = out, out.with_name(f"{out.name}.csv")
        self._values, self._lines, self._journal = (
            out.with_name(f".{out.name}.{part}.part") for part in ("rows", "csv", "journal")
        )
        self.done = self.rows = self.width = 0
        self.skipped: list[str] = []
        self.settings = json.loads(json.dumps(settings))
        if resume and self._journal.is_file():
            self._go_on()
        else:
            for part in (self._values, self._lines, self._journal):
                part.unlink(missing_ok=True)
        self._values.touch()
        self._lines.touch()

    def _go_on(self) -> None:
        """Read the journal, and cut off what was written after its last line."""
        first, *lines = self._journal.read_text(encoding="utf-8").split("\n")
        size = 0
        try:
            before = json.loads(first)
            for line in lines[:-1]:  # what follows the last line's end is a line that a killed run did not finish
                state = json.loads(line)
                self.done, self.rows, self.width, size = (state[key] for key in ("done", "rows", "width", "size"))
                self.skipped += [state["skipped"]] if state["skipped"] else []
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{self._journal}: cannot be read ({error})", hint="leave out --resume to start anew"
            ) from error
        if before != self.settings:
            changed = [name for name in self.settings if before.get(name) != self.settings[name]]
            raise UsageError(
                f"{self.out}: what was begun there has other settings ({', '.join(changed)})",
                hint="resume with the same encoder, clips and options, or leave out --resume to start anew",
            )
        kept = "\n".join([first, *lines[:-1], ""])
        self._journal.write_text(kept, encoding="utf-8")
        os.truncate(self._values, len(header_of(0, self.width)) + 4 * self.rows * self.width if self.width else 0)
        os.truncate(self._lines, size)

    def _note(self, skipped: str = "") -> None:
        """Write a line of the journal, whole: the rows are on their way to the disk before it."""
        text = "" if self._journal.is_file() else json.dumps(self.settings) + "\n"
        state = {"done": self.done, "rows": self.rows, "width": self.width, "skipped": skipped}
        text += json.dumps({**state, "size": self._lines.stat().st_size}) + "\n"
        with self._journal.open("a", encoding="utf-8") as file:
            file.write(text)

    def add(self, clip: EmbeddedClip) -> None:
        """Append the rows of a clip."""
        rows, width = clip.values.shape
        with self._values.open("ab") as file:
            if not self.width:
                file.write(header_of(0, width))
            file.write(np.ascontiguousarray(clip.values, dtype="<f4").tobytes())
        with self._lines.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if not self.width:
                extra = ["uncertainty"] if clip.uncertainty is not None else []
                writer.writerow(["path", "time", *extra])
            for row in range(rows):
                more = [] if clip.uncertainty is None else [float(clip.uncertainty[row])]
                writer.writerow([utf8(str(clip.clip.path)), float(clip.times[row]), *more])
        self.done, self.rows, self.width = self.done + 1, self.rows + rows, width
        self._note()

    def skip(self, message: str) -> None:
        """Note a clip that could not be read."""
        self.done += 1
        self.skipped.append(message)
        self._note(message)

    def finish(self) -> None:
        """Complete the header and put both files in place."""
        with self._values.open("r+b") as file:
            file.write(header_of(self.rows, self.width))
            file.flush()
            os.fsync(file.fileno())
        self._lines.replace(self.table)
        self._values.replace(self.out)
        self._journal.unlink()
