"""Checks that an evaluator makes before it computes anything."""

from __future__ import annotations

from collections.abc import Collection

from ssl_wb.errors import DataError
from ssl_wb.plugin.evaluator import ProbeTask, Split
from ssl_wb.scoring.metrics import Kind, kind_of

__all__ = ["require_labels", "require_parts"]

#: How labels of each kind are called in messages.
LABELS: dict[Kind, str] = {"single": "one class per clip", "several": "several labels per clip", "number": "numbers"}


def require_labels(task: ProbeTask, kinds: Collection[Kind], needs: str, hint: str) -> None:
    """Refuse a task whose labels are of another kind than the evaluator can use.

    Args:
        task: the task.
        kinds: what :func:`ssl_wb.api.kind_of` may return: ``single``, ``several``, ``number``.
        needs: what the evaluator needs, as in ``"retrieval needs classes"``; the start of the message.
        hint: what the user can do instead.

    Raises:
        DataError: the labels are of another kind.
    """
    kind = kind_of(task.labels)
    if kind not in kinds:
        raise DataError(f"task {task.name!r}: {needs}, and its labels are {LABELS[kind]}", hint=hint)


def require_parts(task: ProbeTask, split: Split, training: int = 1) -> None:
    """Refuse a split with an empty part.

    Args:
        task: the task.
        split: one of its splits.
        training: fewest training clips; batch statistics need two.

    Raises:
        DataError: the training, validation or test part has too few clips.
    """
    parts = {"training": (split.train, training), "validation": (split.validation, 1), "test": (split.test, 1)}
    for name, (clips, fewest) in parts.items():
        if len(clips) < fewest:
            what = f"the {name} part is empty" if training == 1 else f"too few {name} clips"
            raise DataError(f"task {task.name!r}, {split.name}: {what}", hint="Check its column split or fold.")
