"""The run folder: names of its files, and what may be written into it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ssl_wb.errors import RunFolderError
from ssl_wb.files import why_not_writable, write_atomically
from ssl_wb.runs.lock import RunLock

__all__ = ["RunFolder"]


class RunFolder:
    """Names of everything in a run folder.

    ``recipe.toml`` as given, ``recipe.resolved.toml`` with every default, ``environment.json``, ``statistics.json`` and
    ``data.json`` of the data, ``initial.safetensors`` where the encoder did not start at random, ``unreadable.json``
    where clips could not be read, ``skipped.jsonl`` where steps were not taken, ``extended.json`` where it goes on with
    another run, ``metrics.jsonl``, ``checkpoints/`` and, after probing, ``results.json`` and ``scores.npz``;
    ``run.lock`` while a process trains in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.toml"
        self.resolved = path / "recipe.resolved.toml"
        self.environment = path / "environment.json"
        self.statistics = path / "statistics.json"
        self.metrics = path / "metrics.jsonl"
        self.skipped = path / "skipped.jsonl"
        self.data = path / "data.json"
        self.unreadable = path / "unreadable.json"
        self.extended = path / "extended.json"
        self.checkpoints = path / "checkpoints"
        self.results = path / "results.json"
        self.scores = path / "scores.npz"
        self.initial = path / "initial.safetensors"
        self.lock = RunLock(path / "run.lock")

    def has_checkpoint(self) -> bool:
        """Whether a checkpoint was written, sound or not."""
        return self.checkpoints.is_dir() and any(not path.name.startswith(".") for path in self.checkpoints.iterdir())

    def is_run(self) -> bool:
        """Whether a run was started here."""
        return self.resolved.is_file()

    def require_run(self) -> None:
        """Check that a run was started here.

        Raises:
            RunFolderError: none was.
        """
        if not self.is_run():
            raise RunFolderError(
                f"{self.path}: not a run folder (no {self.resolved.name})", hint="name the folder that train made"
            )

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse a folder that must not be written, without touching it; every process of a run may call this.

        Raises:
            RunFolderError: it is not empty and is not to be resumed or overwritten, there is nothing to resume, or
                another process writes it, or it cannot be written.
        """
        self.lock.check()
        taken = self.path.exists() and (not self.path.is_dir() or (bool(self._entries()) and not self._unstarted()))
        if resume:
            if not self.is_run():
                raise RunFolderError(
                    f"{self.path}: there is no run to resume here", hint="leave out --resume to start one"
                )
        elif taken and not (overwrite and (self.is_run() or self._removed_in_part())):
            if self.is_run():
                hint = (
                    "--resume goes on with it, --overwrite throws it away and starts anew, --out names another folder"
                )
            else:
                hint = "this is no run of ssl-wb and will not be overwritten; --out names another folder"
            raise RunFolderError(f"{self.path}: the run folder is not empty", hint=hint)
        if fault := why_not_writable(self.path):
            raise RunFolderError(
                f"{self.path}: the run folder cannot be written ({fault})", hint="name another folder with --out"
            )

    def _entries(self) -> set[str]:
        """Return the names of what is here besides the lock and what was being written."""
        names = {entry.name for entry in self.path.iterdir()}
        passing = {name for name in names if name.startswith(f"{self.lock.path.name}.")}
        passing |= {name for name in names if name.startswith(".") and name.endswith(".part")}
        return names - passing - {self.lock.path.name}

    def _unstarted(self) -> bool:
        """Whether a start was killed before this was a run: it makes the empty folder for checkpoints first."""
        first = {self.checkpoints.name, self.recipe.name, self.environment.name}
        return self.checkpoints.is_dir() and not any(self.checkpoints.iterdir()) and self._entries() <= first

    def _removed_in_part(self) -> bool:
        """Whether ``overwrite`` was killed while it threw a run away: nothing else is here than what a run has."""
        own = {path.name for path in vars(self).values() if isinstance(path, Path)}
        return self.path.is_dir() and self.checkpoints.is_dir() and self._entries() <= own

    def prepare(self, *, resume: bool, overwrite: bool) -> None:
        """Take the folder's lock and make it ready to be written; on the main process only.

        Raises:
            RunFolderError: as :meth:`check`.
        """
        self.check(resume=resume, overwrite=overwrite)
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock.take()
        if overwrite and not resume and (self.is_run() or self._removed_in_part()):
            self.resolved.unlink(missing_ok=True)  # first: what is left of an interrupted removal is no run
            self.checkpoints.mkdir(exist_ok=True)
            entries = [entry for entry in self.path.iterdir() if entry not in (self.lock.path, self.checkpoints)]
            for entry in [*entries, *self.checkpoints.iterdir()]:
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self._tidy()

    def _tidy(self) -> None:
        """Remove what a process that was killed was writing, or looked at clocks with."""
        own = {path.name for path in vars(self).values() if isinstance(path, Path)}
        for entry in self.path.iterdir():
            # .NAME.12345678.part is a file that was being written, .12345678.part a trial of whether one can be.
            begun = entry.name.startswith(".") and entry.name.endswith(".part")
            name = entry.name.removesuffix(".part").rpartition(".")[0][1:]
            if (begun and (not name or name in own)) or entry.name.startswith(f"{self.lock.path.name}."):
                entry.unlink(missing_ok=True)

    def write_json(self, path: Path, values: Any) -> None:
        """Write values as JSON, completely or not at all."""
        text = json.dumps(values, indent=2, ensure_ascii=False, default=str) + "\n"
        # A file name that is not UTF-8 holds lone surrogates; as an escape such as \udce9, JSON can hold them.
        write_atomically(path, text.encode("utf-8", "backslashreplace"))

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def append_skipped(self, row: dict[str, Any]) -> None:
        """Append one line to ``skipped.jsonl``; it is never cut, so a step that is done twice may be there twice."""
        with self.skipped.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def cut_metrics(self, step: int) -> None:
        """Remove the lines after ``step``, which a resumed run writes again."""
        if not self.metrics.is_file():
            return
        kept = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break  # the incomplete last line of a killed run
            if row["step"] > step:
                break
            kept.append(line + "\n")
        write_atomically(self.metrics, "".join(kept))
