"""The tasks that ship: descriptions of public data sets, and manifests made from their original downloads."""

from __future__ import annotations

from ssl_wb.errors import UsageError, did_you_mean
from ssl_wb.tasks.catalogue import audioset, environment, music, speech
from ssl_wb.tasks.catalogue.description import TaskDescription

__all__ = ["CATALOGUE", "find_task"]

#: Every description by name, grouped by domain.
CATALOGUE: dict[str, TaskDescription] = {
    task.name: task for task in (*environment.TASKS, *speech.TASKS, *music.TASKS, *audioset.TASKS)
}


def find_task(name: str) -> TaskDescription:
    """Return a description by its name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in CATALOGUE:
        raise UsageError(f"no task is called {name!r}{did_you_mean(name, CATALOGUE)}", hint="`ssl-wb tasks` lists them")
    return CATALOGUE[name]
