"""A task: a labelled data set, and how its original download is read."""

from __future__ import annotations

from pathlib import Path

from ssl_wb.api import Task, TaskRow, check_cell, dataset_folder, hookimpl, read_table


class NewPlugin(Task):
    """Two classes that a table lists, with a fold for each clip."""

    name = "new-plugin"
    reference = ""
    title = "Sounds: low or high"
    domain = "general"
    metric = "accuracy"
    classes = 2
    clip_seconds = 2.0
    division = "folds, official"
    folds = True
    homepage = "https://example.org"
    licence = "CC0"
    layout = ("labels.csv", "audio/*.wav")

    def rows(self, root: Path) -> list[TaskRow]:
        """List the clips of ``labels.csv``."""
        base = dataset_folder(root, "labels.csv")
        return [
            TaskRow(base / "audio" / row["file"], (check_cell(place, row["label"], ("low", "high")),), fold=row["fold"])
            for place, row in read_table(base / "labels.csv", ["file", "label", "fold"])
        ]


@hookimpl
def ssl_wb_tasks() -> list[type[Task]]:
    """Offer this task."""
    return [NewPlugin]
