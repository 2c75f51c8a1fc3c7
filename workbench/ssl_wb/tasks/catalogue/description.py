"""What a task description says, and a line of the manifest that it leads to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["Domain", "Metric", "Row", "TaskDescription"]

#: Columns of a result table are grouped by these.
Domain = Literal["environment", "speech", "music", "general"]
Metric = Literal["accuracy", "mAP", "EER"]


@dataclass(frozen=True, slots=True)
class Row:
    """One clip as the metadata lists it; the file may be absent.

    Attributes:
        path: the audio file, below the root.
        labels: what is heard.
        part: train, val or test, where the set has a fixed split.
        fold: where it has folds.
        start: seconds into the file, where the clip is a stretch of it.
        duration: seconds, likewise.
    """

    path: Path
    labels: tuple[str, ...]
    part: str | None = None
    fold: str | None = None
    start: float | None = None
    duration: float | None = None


@dataclass(frozen=True)
class TaskDescription:
    """A public data set as a task.

    Attributes:
        name: on the command line.
        title: the data set, and what is told apart.
        domain: group in tables.
        metric: what papers report, and results of a manifest that ``tasks make`` wrote.
        multi_label: whether a clip may carry several labels.
        clip_seconds: length that published evaluations cut or pad a clip to (EVAR's, where it has the task; else see
            ``notes``); of ``stretches``, the most that the manifest takes of a file. The workbench cuts and pads
            nothing: it embeds clips whole.
        division: folds or split, and whether they are official.
        homepage: where to get it.
        licence: of annotations and audio, as far as it is known for certain.
        layout: what is expected below the root.
        rows: reads the metadata below a root; raises DataError where it is not as expected.
        folds: whether rows name folds; else they name parts.
        stretches: whether clips are stretches of longer files.
        classes: number of classes, where it is known.
        known: published counts: ``clips`` in all, and by part (``train``) or fold (``fold 1``).
        notes: choices made here, and what is doubtful.
    """

    name: str
    title: str
    domain: Domain
    metric: Metric
    multi_label: bool
    clip_seconds: float
    division: str
    homepage: str
    licence: str
    layout: tuple[str, ...]
    rows: Callable[[Path], list[Row]]
    folds: bool = False
    stretches: bool = False
    classes: int | None = None
    known: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the manifest that ``tasks make`` writes."""
        stretch = ("start", "duration") if self.stretches else ()
        return ("path", "label", "fold" if self.folds else "split", *stretch, "domain", "metric")

    @property
    def length(self) -> str:
        """Say whose length ``clip_seconds`` is."""
        if self.stretches:
            return f"{self.clip_seconds:g} s, which the manifest takes of each file (start, duration); embedded whole"
        return f"{self.clip_seconds:g} s in the published protocol; the workbench embeds clips whole, at any length"

    def as_json(self) -> dict[str, Any]:
        """Return everything but the reader, for ``--json``."""
        return {
            "name": self.name,
            "title": self.title,
            "domain": self.domain,
            "metric": self.metric,
            "multi_label": self.multi_label,
            "classes": self.classes,
            "clip_seconds": self.clip_seconds,
            "division": self.division,
            "known_counts": dict(self.known),
            "homepage": self.homepage,
            "licence": self.licence,
            "layout": list(self.layout),
            "manifest_columns": list(self.columns),
            "notes": list(self.notes),
        }
