"""What is known of a task before its clips are read: its domain and the metric that is reported."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ssl_wb.errors import DataError
from ssl_wb.plugin.registry import load_registry
from ssl_wb.plugin.task import Task

__all__ = ["TaskMetadata", "shipped_task", "task_metadata"]

#: Columns of a manifest that describe the whole task.
COLUMNS = ("domain", "metric")


@dataclass(frozen=True)
class TaskMetadata:
    """Domain and metric of a task.

    Attributes:
        domain: its group in tables; None if it has none.
        metric: name of the metric that is reported, as written in the manifest; None if it is not given.
    """

    domain: str | None = None
    metric: str | None = None


def task_metadata(manifest: Path) -> TaskMetadata:
    """Return what a manifest says about its task.

    Each field is the value of the column of that name, if all lines that fill it in have the same value. If not, it is
    that of the installed task that the file is named after, if there is one. A column with several values is taken for
    a column of the user's own.

    Args:
        manifest: a CSV that has been read as a manifest before, or the folder of a saved data set.

    Raises:
        DataError: the file cannot be read any more.
    """
    found = {} if manifest.is_dir() else _constant_columns(manifest)
    if len(found) < len(COLUMNS) and (named := shipped_task(manifest)):
        found = {name: getattr(named, name) for name in COLUMNS} | found
    return TaskMetadata(**found)


def shipped_task(manifest: Path) -> type[Task] | None:
    """Return the installed task that a manifest is named after; None if there is none."""
    registry = load_registry()
    return cast("type[Task]", registry.get("task", manifest.stem)) if manifest.stem in registry.names("task") else None


def _constant_columns(manifest: Path) -> dict[str, str]:
    """Return the columns ``domain`` and ``metric`` that have one value on all lines where they are filled in."""
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, skipinitialspace=True)
            header = [name.strip().lower() for name in next(lines, [])]
            places = {name: header.index(name) for name in COLUMNS if name in header}
            if not places:  # the usual manifest, of perhaps two million lines, is read no further
                return {}
            values: dict[str, set[str]] = {name: set() for name in places}
            for line in lines:
                for name, place in places.items():
                    if len(line) > place:
                        values[name].add(line[place].strip())
    except OSError as error:
        raise DataError(f"{manifest}: cannot be read ({error})", hint="Was it moved meanwhile?") from error
    return {name: filled.pop() for name, found in values.items() if len(filled := found - {""}) == 1}
