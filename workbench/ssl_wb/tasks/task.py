"""A task: labelled clips with their splits, read from a manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.audio.clip import ClipSet
from ssl_wb.data.clips import SourceSettings, load_clips
from ssl_wb.errors import DataError
from ssl_wb.plugin.evaluator import Encoder, ProbeTask, Split
from ssl_wb.scoring.metrics import Metric, choose_metric, kind_of, metric_of
from ssl_wb.scoring.summary import defined_mean
from ssl_wb.tasks.labels import listed, read_labels
from ssl_wb.tasks.metadata import shipped_task, task_metadata
from ssl_wb.tasks.recordings import recordings_of
from ssl_wb.tasks.splits import divide

__all__ = ["LoadedTask", "check_training_classes", "load_task"]


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
        recordings: int64 ``[clips]``, which recording each clip is of; what draws keep on one side.
    """

    name: str
    clips: ClipSet
    labels: NDArray[Any]
    classes: tuple[str, ...]
    splits: tuple[Split, ...]
    notes: tuple[str, ...]
    metric: str | None = None
    domain: str | None = None
    recordings: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        """Give each clip a recording of its own unless they are told."""
        if not len(self.recordings):
            object.__setattr__(self, "recordings", np.arange(len(self.clips), dtype=np.int64))

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
        return float(defined_mean([self.measure.chance(self.labels[split.test]) for split in self.splits]))

    def embedded(
        self,
        embeddings: Any,
        encoder: Encoder | None = None,
        frames: NDArray[np.int64] | None = None,
        read: Callable[[int], NDArray[np.float32]] | None = None,
    ) -> ProbeTask:
        """Combine this task with embeddings of its clips, for an evaluator.

        Args:
            embeddings: float32 ``[clips, ...]``, an array or what reads as one, of the level that the evaluator needs.
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
            captions=[clip.captions for clip in self.clips],
        )

    def without_embeddings(self) -> ProbeTask:
        """Return this task with embeddings ``[clips, 0]``, for checks of its labels."""
        return self.embedded(np.zeros((len(self.clips), 0), dtype=np.float32))


def load_task(
    source: str | Path,
    name: str | None = None,
    metric: str | None = None,
    domain: str | None = None,
    settings: SourceSettings | None = None,
    *,
    allow_leaks: bool = False,
) -> LoadedTask:
    """Read a task from a manifest, or from another place whose clips have labels.

    A line with several labels makes the task multi-label. Clips are divided by the column ``split`` (train, val,
    test), by ``fold`` (each fold is tested once), or else by a stratified draw; ``notes`` say what was drawn. Clips of
    one recording (one file, or one value of the column ``group``) are on one side of every split. A clip on several
    lines with different labels is refused; with the metric mAP it has all of them.

    Args:
        source: a manifest CSV, or the folder of a saved data set, with the column ``label``; or what another source
            reads.
        name: name in tables; by default the name of the file, without its ending.
        metric: the metric to report. By default the value of the column ``metric``, if it is the same on all lines;
            then the metric of the installed task that the file is named after; then accuracy, or mAP for several
            labels. A metric by default is used only if it fits the labels. R2 and MAE read labels as numbers.
        domain: its group in tables, "" for none; by default from the column ``domain`` or the file's name, likewise.
        settings: options of sources and the run's folder, for clips that are generated.
        allow_leaks: accept splits and folds with clips of one recording on both sides, with a note, and draw clips as
            if each were of a recording of its own.

    Raises:
        DataError: there are no labels, labels are missing, there are fewer than two classes, a class has no
            training clip, the columns do not divide the clips or put clips of one recording on both sides, clips are on
            several lines with different labels, or the metric does not fit the labels.
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
    clips, labels, classes, notes = read_labels(clips, wanted, where)
    if wanted is not None:
        try:
            wanted = choose_metric(wanted, labels).name
        except DataError as error:
            if metric is not None:
                raise
            # A subset of a multi-label data set may have one label on every clip; that is no reason to refuse it.
            notes.append(f"reported is {metric_of(labels)}: {error.message}")
            wanted = None
    recordings = recordings_of(clips.clips, shipped_task(clips.source))
    splits, more = divide(clips.clips, labels, where, recordings, allow_leaks=allow_leaks)
    if allow_leaks:  # later draws, too, take each clip on its own
        recordings = np.arange(len(clips), dtype=np.int64)
    check_training_classes(splits, labels, classes, where)
    group = (metadata.domain if domain is None else domain) or None
    name = name or reader.task_name(str(source))
    return LoadedTask(name, clips, labels, classes, tuple(splits), (*notes, *more), wanted, group, recordings)


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
                f"{where}: {len(missing)} of {len(classes)} classes have no clip to train on{when}: {listed(missing)}",
                hint="Give every class clips in train and, with folds, in at least two folds; or take the class out.",
            )
