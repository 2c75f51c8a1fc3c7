"""Checks that an evaluator makes before it computes anything."""

from __future__ import annotations

from collections.abc import Collection

from ssl_wb.errors import DataError
from ssl_wb.plugin.evaluator import ProbeTask, Split
from ssl_wb.scoring.metrics import Kind, kind_of

__all__ = ["require_labels", "require_parts", "unfit_labels", "unfit_parts"]

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
    reason = unfit_labels(task, kinds, needs)
    if reason is not None:
        raise DataError(f"task {task.name!r}: {reason}", hint=hint)


def unfit_labels(task: ProbeTask, kinds: Collection[Kind], needs: str) -> str | None:
    """Return why an evaluator cannot use the labels of a task, for :meth:`ssl_wb.api.Evaluator.fits`; None if it can.

    Args:
        task: the task.
        kinds: as in :func:`require_labels`.
        needs: what the evaluator needs, as in ``"retrieval needs classes"``.
    """
    kind = kind_of(task.labels)
    return None if kind in kinds else f"{needs}, and its labels are {LABELS[kind]}"


def unfit_parts(task: ProbeTask, training: int = 1) -> str | None:
    """Return why an evaluator that trains cannot use the splits of a task; None if it can.

    Args:
        task: the task.
        training: fewest training clips, as in :func:`require_parts`.
    """
    for split in task.splits:
        try:
            require_parts(task, split, training)
        except DataError as error:
            return error.message.removeprefix(f"task {task.name!r}, ")
    return None


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
