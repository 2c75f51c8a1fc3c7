"""A whole plugin in one file: a task of recordings that a table lists."""

from __future__ import annotations

from pathlib import Path

from ssl_wb.api import Task, TaskRow, check_cell, dataset_folder, hookimpl, read_table


class Frogs(Task):
    """Calls of frogs, recorded at three ponds; each pond is a fold."""

    name = "frogs"
    title = "Frogs: species by their calls"
    domain = "animals"
    metric = "macro F1"
    classes = 2
    clip_seconds = 3.0
    division = "3 folds by pond, official"
    folds = True
    homepage = "https://example.org/frogs"
    licence = "CC0"
    layout = ("calls.csv", "audio/*.wav")
    known = {"clips": 6}

    def rows(self, root: Path) -> list[TaskRow]:
        """List the clips of ``calls.csv``."""
        base = dataset_folder(root, "calls.csv")
        return [
            TaskRow(
                base / "audio" / row["file"], (check_cell(place, row["species"], ("tree", "pool")),), fold=row["pond"]
            )
            for place, row in read_table(base / "calls.csv", ["file", "species", "pond"])
        ]


@hookimpl
def ssl_wb_tasks() -> list[type[Task]]:
    """Register the frogs."""
    return [Frogs]
