"""The installed tasks: those of ssl-wb and of other packages, found as plugins of kind ``task``."""

from __future__ import annotations

from typing import cast

from ssl_wb.errors import UsageError, did_you_mean
from ssl_wb.plugin.registry import load_registry
from ssl_wb.plugin.task import Task

__all__ = ["find_task", "installed_tasks"]


def installed_tasks() -> dict[str, Task]:
    """Return every task that can be used, by name; by ``distribution/name`` if two packages share a name."""
    registry = load_registry()
    return {name: cast("Task", registry.get("task", name)()) for name in registry.names("task")}


def find_task(name: str) -> Task:
    """Return the task of a name, or of ``distribution/name``.

    Raises:
        UsageError: no task has that name.
        PluginError: the task is broken, or two packages have one of that name.
    """
    registry = load_registry()
    of_any_status = [record for record in registry.records if record.kind == "task"]
    if not any(name in (record.name, record.qualified) for record in of_any_status):
        guess = did_you_mean(name, registry.names("task"))
        raise UsageError(f"no task is called {name!r}{guess}", hint="`ssl-wb tasks` lists them")
    return cast("Task", registry.get("task", name)())
