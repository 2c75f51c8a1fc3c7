"""A task: labelled clips with their splits, read from a manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.audio.clip import Clip, ClipSet
from ssl_wb.data.clips import SourceSettings, load_clips
from ssl_wb.errors import DataError
from ssl_wb.plugin.evaluator import Encoder, ProbeTask, Split
from ssl_wb.scoring.metrics import METRICS, Metric, choose_metric, kind_of, metric_of
from ssl_wb.tasks.metadata import task_metadata
from ssl_wb.tasks.splits import divide

__all__ = ["LoadedTask", "check_training_classes", "load_task"]

#: Names listed in a message; the rest is only counted.
SHOWN = 5
NUMBERS_HINT = "R2 and MAE want one number per clip in the column 'label'; another metric takes labels as classes."
#: Metrics of numeric labels, in lower case. Only they decide how the column ``label`` is read.
NUMERIC_METRICS = frozenset(metric.name.lower() for metric in METRICS.values() if metric.kinds == ("number",))


@dataclass(frozen=True)
class LoadedTask:
    """A task whose clips are not embedded yet.

    Attributes:
        name: in tables.
        clips: the clips, in manifest order.
        labels: int64 ``[clips]`` (one label per clip), float32 ``[clips, classes]`` of 0 and 1 (several), or float64
            ``[clips]`` (numbers).
        classes: class names in label order, sorted; ``("value",)`` for numbers.
        splits: one per fold, or one fixed split.
        notes: what the reader of a result should know.
        metric: name of the metric to report; None for the default metric of such labels.
        domain: its group in tables; None if it has none.
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
        """The metric that results report."""
        return choose_metric(self.metric, self.labels)

    @property
    def chance(self) -> float:
        """Chance level of the metric: mean over splits, each on its own test clips."""
        return float(np.mean([self.measure.chance(self.labels[split.test]) for split in self.splits]))

    def embedded(
        self,
        embeddings: NDArray[np.float32],
        encoder: Encoder | None = None,
        frames: NDArray[np.int64] | None = None,
        read: Callable[[int], NDArray[np.float32]] | None = None,
    ) -> ProbeTask:
        """Combine this task with embeddings of its clips, for an evaluator.

        Args:
            embeddings: ``[clips, ...]``, of the level that the evaluator needs.
            encoder: the encoder that made them.
            frames: int64 ``[clips]``, frames of each clip, if the embeddings are ``[clips, T, D]``.
            read: decodes a clip by its index.
        """
        return ProbeTask(
            name=self.name,
            embeddings=embeddings,
            labels=self.labels,
            classes=self.classes,
            splits=self.splits,
            notes=self.notes,
            metric=self.measure.name,
            frames=frames,
            encoder=encoder,
            read=read,
        )


def load_task(
    source: str | Path,
    name: str | None = None,
    metric: str | None = None,
    domain: str | None = None,
    settings: SourceSettings | None = None,
) -> LoadedTask:
    """Read a task from a manifest, or from another place whose clips have labels.

    A line with several labels makes the task multi-label. Clips are divided by the column ``split`` (train, val,
    test), by ``fold`` (each fold is tested once), or else by a stratified draw; ``notes`` say what was drawn.

    Args:
        source: a manifest CSV, or the folder of a saved data set, with the column ``label``; or what another source
            reads.
        name: name in tables; by default the name of the file, without its ending.
        metric: the metric to report. By default the value of the column ``metric``, if it is the same on all lines;
            then the metric of the installed task that the file is named after; then accuracy, or mAP for several
            labels. A metric by default is used only if it fits the labels. R2 and MAE read labels as numbers.
        domain: its group in tables, "" for none; by default from the column ``domain`` or the file's name, likewise.
        settings: options of sources and the run's folder, for clips that are generated.

    Raises:
        DataError: there are no labels, labels are missing, there are fewer than two classes, a class has no
            training clip, the columns do not divide the clips, or the metric does not fit the labels.
    """
    settings = settings or SourceSettings()
    path, reader = Path(source).expanduser(), settings.source(source)
    if path.is_dir() and not reader.has_labels:
        raise DataError(
            f"{path}: a folder has no labels, so it is no task",
            hint="Write a manifest CSV with the columns 'path' and 'label'.",
        )
    clips = load_clips(source, settings)
    where = str(clips.source)
    metadata = task_metadata(clips.source)
    wanted = metadata.metric if metric is None else metric
    labels, classes, notes = _read_labels(clips.clips, wanted, where)
    if wanted is not None:
        try:
            wanted = choose_metric(wanted, labels).name
        except DataError as error:
            if metric is not None:
                raise
            # A subset of a multi-label data set may have one label on every clip; that is no reason to refuse it.
            notes.append(f"reported is {metric_of(labels)}: {error.message}")
            wanted = None
    splits, more = divide(clips.clips, labels, where)
    check_training_classes(splits, labels, classes, where)
    group = (metadata.domain if domain is None else domain) or None
    name = name or reader.task_name(str(source))
    return LoadedTask(name, clips, labels, classes, tuple(splits), (*notes, *more), wanted, group)


def _read_labels(
    clips: Sequence[Clip], metric: str | None, where: str
) -> tuple[NDArray[Any], tuple[str, ...], list[str]]:
    """Return labels, classes and notes; see :class:`LoadedTask`."""
    bare = [clip for clip in clips if not clip.labels]
    if len(bare) == len(clips):
        raise DataError(
            f"{where}: no clip has a label",
            hint="Give the manifest a column 'label' (several labels separated by ';').",
        )
    multi_label = any(len(clip.labels) > 1 for clip in clips)
    if bare and not multi_label:
        raise DataError(
            f"{where}: {len(bare)} of {len(clips)} clips have no label: {_listed([clip.path.name for clip in bare])}",
            hint="Label them or take their lines out of the manifest.",
        )
    notes = [f"{len(bare)} clips without any label count as negative for all"] if bare else []
    if metric is not None and metric.strip().lower() in NUMERIC_METRICS:
        return _numeric_labels(clips, where, multi_label=multi_label), ("value",), notes
    classes = tuple(sorted({label for clip in clips for label in clip.labels}))
    if len(classes) < 2:
        raise DataError(f"{where}: all clips have the label {classes[0]!r}", hint="A task needs at least two classes.")
    return _class_labels(clips, classes, multi_label=multi_label), classes, notes


def _numeric_labels(clips: Sequence[Clip], where: str, *, multi_label: bool) -> NDArray[np.float64]:
    """Read labels as numbers, float64 ``[clips]``."""
    if multi_label:
        raise DataError(f"{where}: a clip has several labels, so they are no numbers to predict", hint=NUMBERS_HINT)
    values, wrong = [], []
    for clip in clips:
        try:
            values.append(float(clip.labels[0]))
        except ValueError:
            values.append(float("nan"))
        if not np.isfinite(values[-1]):
            wrong.append(f"{clip.labels[0]!r} of {clip.path.name}")
    if wrong:
        raise DataError(
            f"{where}: {len(wrong)} of {len(clips)} labels are not numbers: {_listed(wrong)}", hint=NUMBERS_HINT
        )
    if len(set(values)) < 2:
        raise DataError(f"{where}: all clips have the label {values[0]:g}", hint=NUMBERS_HINT)
    return np.array(values, dtype=np.float64)


def _class_labels(clips: Sequence[Clip], classes: Sequence[str], *, multi_label: bool) -> NDArray[Any]:
    """Return class indices, int64 ``[clips]``, or 0 and 1, float32 ``[clips, classes]``."""
    number = {name: index for index, name in enumerate(classes)}
    if not multi_label:
        return np.array([number[clip.labels[0]] for clip in clips], dtype=np.int64)
    labels = np.zeros((len(clips), len(classes)), dtype=np.float32)
    for row, clip in enumerate(clips):
        labels[row, [number[label] for label in clip.labels]] = 1.0
    return labels


def check_training_classes(splits: Sequence[Split], labels: NDArray[Any], classes: Sequence[str], where: str) -> None:
    """Raise DataError if a class has no training clip in some split; numbers have no classes."""
    if kind_of(labels) == "number":
        return
    for split in splits:
        train = labels[split.train]
        present = train.sum(axis=0) > 0 if train.ndim == 2 else np.isin(np.arange(len(classes)), train)  # [classes]
        missing = [name for name, there in zip(classes, present, strict=True) if not there]
        if missing:
            when = "" if len(splits) == 1 else f" when {split.name} is tested"
            raise DataError(
                f"{where}: {len(missing)} of {len(classes)} classes have no clip to train on{when}: {_listed(missing)}",
                hint="Give every class clips in train and, with folds, in at least two folds; or take the class out.",
            )


def _listed(names: Sequence[str]) -> str:
    """Join the first names, and count the others."""
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
