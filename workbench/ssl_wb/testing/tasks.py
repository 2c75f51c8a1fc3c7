"""The checks of a task."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ssl_wb.errors import DataError
from ssl_wb.plugin.contract_checks import refuse
from ssl_wb.plugin.task import Task, TaskRow
from ssl_wb.scoring.metrics import METRICS
from ssl_wb.testing.checks import Checks, Subject
from ssl_wb.testing.options_checks import common_checks

__all__ = ["CHECKS", "check_task"]

#: Names of parts of a fixed split.
PARTS = ("train", "val", "test")

CHECKS: Checks[_Task] = Checks("task", common_checks())


@dataclass(frozen=True)
class _Task(Subject[Task]):
    """A task under test, and a download of it where the caller gives one."""

    root: Path | None = None

    def task(self) -> Task:
        """Make the task, which has no options."""
        return self.plugin()


def check_task(plugin: type[Task], *, root: Path | None = None, skip: Collection[str] = ()) -> None:
    """Hold a task to its contract.

    Args:
        plugin: the class.
        root: folder of a download, or of a small one of the same layout; without it no rows are read.
        skip: names of checks to leave out.

    Raises:
        ContractError: the first check that fails.
    """
    CHECKS.run(_Task(plugin, {}, root), skip)


@CHECKS
def description(subject: _Task) -> None:
    """Its attributes describe the data set: a known metric, seconds above 0, counts that are whole numbers, texts."""
    plugin = subject.plugin
    for name in ("title", "domain", "division", "homepage", "licence"):
        value = getattr(plugin, name)
        if not isinstance(value, str) or not value.strip():
            refuse(plugin, f"set {name} to a text", repr(value))
    if plugin.metric not in METRICS:
        refuse(plugin, f"name a metric: {', '.join(METRICS)}", repr(plugin.metric))
    if not plugin.clip_seconds > 0:
        refuse(plugin, "set clip_seconds above 0", repr(plugin.clip_seconds))
    if isinstance(plugin.layout, str) or not plugin.layout:
        refuse(plugin, "list files of the download as layout, a tuple of texts", repr(plugin.layout))
    if plugin.classes is not None and not plugin.classes > 1:
        refuse(plugin, "have two classes at least, or None", repr(plugin.classes))
    for name, count in plugin.known.items():
        if not isinstance(count, int) or count < 1:
            refuse(plugin, "give published counts as whole numbers", f"{name!r} is {count!r}")


@CHECKS
def recordings(subject: _Task) -> None:
    """``recording_of`` returns a text or None for any name of a file."""
    for name in ("a.wav", "1-100032-A-0.wav", "no ending"):
        recording = subject.plugin.recording_of(name)
        if recording is not None and not isinstance(recording, str):
            refuse(subject.plugin, "return a text or None from recording_of", repr(recording))


@CHECKS
def refused_folder(subject: _Task) -> None:
    """A folder that is no download of it is refused with DataError, or has no rows."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = subject.task().rows(Path(folder))
        except DataError:
            return
    if found:
        refuse(subject.plugin, "raise DataError for a folder without its metadata", f"{len(found)} rows")


@CHECKS
def rows(subject: _Task) -> None:
    """``rows`` lists clips below the root with their labels, and a fold or a part each, as ``folds`` says; the same
    clips again the second time.
    """
    if subject.root is None:
        return
    task = subject.task()
    found = task.rows(subject.root)
    if not found or not all(isinstance(row, TaskRow) for row in found):
        refuse(task, "return a list of TaskRow", f"{len(found)} rows")
    for row in found:
        seen = f"{row!r:.200}"
        if not row.path.is_relative_to(subject.root):
            refuse(task, "list files below the root of the download", seen)
        if not isinstance(row.labels, tuple) or (len(row.labels) != 1 and not task.multi_label):
            refuse(task, "give each clip a tuple of one label, or set multi_label", seen)
        if (row.fold is not None) != task.folds or (row.part is None) != task.folds:
            refuse(task, "name a fold where `folds` is set, and a part where it is not", seen)
        if row.part is not None and row.part not in PARTS:
            refuse(task, f"name a part: {', '.join(PARTS)}", seen)
        if (row.start is not None and row.duration is not None) != task.stretches:
            refuse(task, "give start and duration just where `stretches` is set", seen)
    if task.rows(subject.root) != found:
        refuse(task, "list the same rows for the same download", "others the second time")
