"""Tasks: labelled clips and how they are divided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.audio.clip import Clip, ClipSet
from ssl_wb.data.arrow import is_dataset
from ssl_wb.data.clips import load_clips
from ssl_wb.errors import DataError
from ssl_wb.plugin.evaluator import Encoder, ProbeTask, Split
from ssl_wb.scoring.chance import chance_of
from ssl_wb.scoring.metrics import METRICS, Metric, choose_metric, kind_of, metric_of
from ssl_wb.tasks.metadata import about
from ssl_wb.tasks.splits import divide

__all__ = ["LoadedTask", "check_training", "load_task"]

#: Names listed in a message before the rest is only counted.
SHOWN = 5
NUMBERS = "R2 and MAE want one number per clip in the column 'label'; another metric takes labels as classes."
HINT = "Give the manifest a column 'label' (several labels separated by ';')."


@dataclass(frozen=True)
class LoadedTask:
    """A task whose clips are not embedded yet.

    Attributes:
        name: in tables.
        clips: the clips, in manifest order.
        labels: int64 ``[clips]`` (single label), float32 ``[clips, classes]`` of 0 and 1 (several), or float64
            ``[clips]`` (numbers).
        classes: class names in label order, sorted; of numbers the one name ``value``.
        splits: folds, or one fixed split.
        notes: what the reader of a result should know.
        metric: what results shall report; the labels' own when None.
        domain: its group in tables; None where it has none.
    """

    name: str
    clips: ClipSet
    labels: NDArray[Any]
    classes: tuple[str, ...]
    splits: tuple[Split, ...]
    notes: tuple[str, ...]
    metric: str | None = None
    domain: str | None = None

    @property
    def multi_label(self) -> bool:
        """Whether a clip may carry several labels."""
        return self.labels.ndim == 2

    @property
    def measure(self) -> Metric:
        """What results report."""
        return choose_metric(self.metric, self.labels)

    @property
    def chance(self) -> float:
        """What a probe without any knowledge reaches, over splits.

        As :func:`ssl_wb.scoring.chance.chance_of` has it for the test clips of each split.
        """
        return float(np.mean([chance_of(self.measure, self.labels[split.test]) for split in self.splits]))

    def embedded(
        self,
        embeddings: NDArray[np.float32],
        encoder: Encoder | None = None,
        frames: NDArray[np.int64] | None = None,
        read: Callable[[int], NDArray[np.float32]] | None = None,
    ) -> ProbeTask:
        """Put embeddings ``[clips, ...]`` and the task together for an evaluator.

        Args:
            embeddings: of the level the evaluator asks for.
            encoder: what embedded them.
            frames: int64 ``[clips]``, frames of each clip, where the embeddings are ``[clips, T, D]``.
            read: decodes a clip by its index.
        """
        return ProbeTask(
            self.name,
            embeddings,
            self.labels,
            self.classes,
            self.splits,
            self.notes,
            self.measure.name,
            frames,
            encoder,
            read,
        )


def load_task(
    source: str | Path, name: str | None = None, metric: str | None = None, domain: str | None = None
) -> LoadedTask:
    """Read a task from a manifest.

    Several labels on any line make the task multi-label. Clips are divided by the column ``split`` (train,
    val, test), by ``fold`` (each fold is tested once), or else by a stratified draw; ``notes`` say what was
    drawn.

    Args:
        source: a manifest CSV, or the folder of a saved data set, with the column ``label``.
        name: name in tables; the file's, without its ending, unless given.
        metric: what results shall report; unless given, what the column ``metric`` says on all lines, or else that of
            the shipped task whose name the file has, where it fits the labels; or else accuracy, or mAP for several
            labels. R2 and MAE read labels as numbers.
        domain: its group in tables, "" for none; unless given, what the column ``domain`` says on all lines, or else
            that of the shipped task whose name the file has.

    Raises:
        DataError: there are no labels, labels are missing, there are fewer than two classes, a class has no
            training clip, the columns do not divide the clips, or the metric does not fit the labels.
    """
    path = Path(source).expanduser()
    if path.is_dir() and not is_dataset(path):
        raise DataError(
            f"{path}: a folder has no labels, so it is no task",
            hint="Write a manifest CSV with the columns 'path' and 'label'.",
        )
    clips = load_clips(path)
    multi_label, notes = _check_labels(clips.clips, str(path))
    told = about(path)
    wanted = metric if metric is not None else told.metric
    classes: tuple[str, ...] = ("value",)
    if wanted is not None and _is_for_numbers(wanted):
        labels: NDArray[Any] = _numbers(clips.clips, str(path), multi_label=multi_label)
    else:
        classes = tuple(sorted({label for clip in clips for label in clip.labels}))
        if len(classes) < 2:
            raise DataError(
                f"{path}: all clips have the label {classes[0]!r}", hint="A task needs at least two classes."
            )
        labels = _labels(clips.clips, classes, multi_label=multi_label)
    if metric is not None:
        chosen: str | None = choose_metric(metric, labels).name
    else:
        chosen, unfit = _own_metric(told.metric, labels)
        notes += unfit
    splits, more = divide(clips.clips, labels, str(path))
    check_training(splits, labels, classes, str(path))
    group = (told.domain if domain is None else domain) or None
    return LoadedTask(name or path.stem, clips, labels, classes, tuple(splits), (*notes, *more), chosen, group)


def _is_for_numbers(metric: str) -> bool:
    """Whether a metric, as a user writes it, is one of numbers."""
    return metric.strip().lower() in {one.name.lower() for one in METRICS.values() if one.kinds == ("number",)}


def _own_metric(told: str | None, labels: NDArray[Any]) -> tuple[str | None, list[str]]:
    """Return the metric that a manifest tells, and a note in its place where the labels are not made for it.

    A part of a multi-label set may hold clips of one label only; that is no reason to refuse it.
    """
    if told is None:
        return None, []
    try:
        return choose_metric(told, labels).name, []
    except DataError as error:
        return None, [f"reported is {metric_of(labels)}: {error.message}"]


def _numbers(clips: Sequence[Clip], where: str, *, multi_label: bool) -> NDArray[np.float64]:
    """Read labels as numbers, float64 ``[clips]``."""
    if multi_label:
        raise DataError(f"{where}: a clip has several labels, so they are no numbers to predict", hint=NUMBERS)
    values, wrong = [], []
    for clip in clips:
        try:
            values.append(float(clip.labels[0]))
        except ValueError:
            values.append(float("nan"))
        if not np.isfinite(values[-1]):
            wrong.append(f"{clip.labels[0]!r} of {clip.path.name}")
    if wrong:
        raise DataError(f"{where}: {len(wrong)} of {len(clips)} labels are not numbers: {_listed(wrong)}", hint=NUMBERS)
    if len(set(values)) < 2:
        raise DataError(f"{where}: all clips have the label {values[0]:g}", hint=NUMBERS)
    return np.array(values, dtype=np.float64)


def _check_labels(clips: Sequence[Clip], where: str) -> tuple[bool, list[str]]:
    """Whether any clip has several labels, and notes; DataError where labels are missing."""
    bare = [clip for clip in clips if not clip.labels]
    if len(bare) == len(clips):
        raise DataError(f"{where}: no clip has a label", hint=HINT)
    multi_label = any(len(clip.labels) > 1 for clip in clips)
    if bare and not multi_label:
        raise DataError(
            f"{where}: {len(bare)} of {len(clips)} clips have no label: {_listed([clip.path.name for clip in bare])}",
            hint="Label them or take their lines out of the manifest.",
        )
    return multi_label, [f"{len(bare)} clips without any label count as negative for all"] if bare else []


def _labels(clips: Sequence[Clip], classes: Sequence[str], *, multi_label: bool) -> NDArray[Any]:
    """Number the labels: int64 ``[clips]``, or 0 and 1 ``[clips, classes]``."""
    number = {name: index for index, name in enumerate(classes)}
    if not multi_label:
        return np.array([number[clip.labels[0]] for clip in clips], dtype=np.int64)
    labels = np.zeros((len(clips), len(classes)), dtype=np.float32)
    for row, clip in enumerate(clips):
        labels[row, [number[label] for label in clip.labels]] = 1.0
    return labels


def check_training(splits: Sequence[Split], labels: NDArray[Any], classes: Sequence[str], where: str) -> None:
    """Raise DataError where a class has no training clip in some split; numbers have no classes."""
    if kind_of(labels) == "number":
        return
    for split in splits:
        if labels.ndim == 2:
            present = np.atleast_1d(labels[split.train].any(axis=0))  # [classes]
        else:
            present = np.isin(np.arange(len(classes)), labels[split.train])
        missing = [name for name, there in zip(classes, present, strict=True) if not there]
        if missing:
            rest = "" if len(splits) == 1 else f" when {split.name} is tested"
            raise DataError(
                f"{where}: {len(missing)} of {len(classes)} classes have no clip to train on{rest}: {_listed(missing)}",
                hint="Give every class clips in train and, with folds, in at least two folds; or take the class out.",
            )


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
