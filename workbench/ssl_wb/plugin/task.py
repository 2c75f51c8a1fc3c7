"""The task contract: a labelled data set, and how its original download is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ssl_wb.plugin.base import Kind, Plugin

__all__ = ["Task", "TaskRow"]


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One clip of a data set, as its metadata lists it. The file may be missing from the download.

    Attributes:
        path: the audio file.
        labels: one class, or several; none if the clip is negative for all.
        part: train, val or test, if the data set has a fixed split.
        fold: name of the fold, if it has folds.
        start: seconds into the file, if the clip is a segment of it.
        duration: seconds, likewise.
    """

    path: Path
    labels: tuple[str, ...]
    part: str | None = None
    fold: str | None = None
    start: float | None = None
    duration: float | None = None


class Task(Plugin, ABC):
    """A data set as a task: what it is, and the clips that its original download should contain.

    ``ssl-wb tasks make`` writes a manifest from :meth:`rows`. It leaves out files that are missing, and compares counts
    with ``known`` and ``classes``, so that an incomplete download is noticed.
    """

    kind: ClassVar[Kind] = "task"
    required_attributes: ClassVar[tuple[str, ...]] = (
        *("title", "domain", "metric", "clip_seconds", "division", "homepage", "licence", "layout"),
    )

    #: The data set and its classes, in a few words.
    title: ClassVar[str]
    #: Group of columns in result tables: environment, speech, music, general, or another word.
    domain: ClassVar[str]
    #: Metric that papers report, as ``ssl-wb evaluate --metric`` takes it; a manifest carries it.
    metric: ClassVar[str]
    #: Whether a clip may have several labels.
    multi_label: ClassVar[bool] = False
    #: Length that published evaluations cut or pad a clip to, in seconds; with ``stretches``, the longest segment that
    #: the manifest takes of a file. For information only: clips are embedded whole.
    clip_seconds: ClassVar[float]
    #: Folds or split, and whether they are official.
    division: ClassVar[str]
    #: Where to download it.
    homepage: ClassVar[str]
    #: Licence of annotations and audio.
    licence: ClassVar[str]
    #: Files that are expected below the root folder of the download, one line each.
    layout: ClassVar[tuple[str, ...]]
    #: Whether rows name a ``fold``; otherwise they name a ``part``.
    folds: ClassVar[bool] = False
    #: Whether rows are segments of longer files, with ``start`` and ``duration``.
    stretches: ClassVar[bool] = False
    #: Number of classes, if it is known.
    classes: ClassVar[int | None] = None
    #: Published counts: ``clips`` in all, and by part (``train``) or fold (``fold 1``).
    known: ClassVar[Mapping[str, int]] = {}
    #: Decisions that were made here, and what is doubtful.
    notes: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def recording_of(cls, name: str) -> str | None:
        """Return the recording that a clip was cut from, as its file's name tells; None where it does not.

        Clips of one recording are never drawn on both sides of a split. ``name`` has no folder.
        """
        del name
        return None

    @abstractmethod
    def rows(self, root: Path) -> list[TaskRow]:
        """List the clips from the metadata of a download.

        Args:
            root: folder of the download, in its original layout.

        Raises:
            DataError: the metadata is missing or not as expected. Without a hint, the host adds ``layout``.
        """
