"""Clips: audio files or stretches of them, with their labels, splits and captions."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ssl_wb.audio.decode import StoredAudio, info
from ssl_wb.errors import AudioError

__all__ = ["Clip", "ClipSet", "listing_digest"]


@dataclass(frozen=True, slots=True)
class Clip:
    """A file, or a stretch of one.

    Attributes:
        path: the audio file, or audio stored within a larger file.
        start: seconds from the beginning of the file.
        duration: seconds, or None up to the end of the file.
        labels: its classes; none, one or several.
        split: part of a fixed split ("train", "val", "test"), if there is one.
        fold: cross-validation fold, if there is one.
        id: index within its set.
        captions: sentences, each of which describes the clip.
        caption_embedding: file with embeddings of such sentences, float ``[C]`` or ``[k, C]``.
        group: the recording (or session, speaker, video) it is taken from, if that is told; clips of one group are
            never on both sides of a split.
    """

    path: Path | StoredAudio
    start: float = 0.0
    duration: float | None = None
    labels: tuple[str, ...] = ()
    split: str | None = None
    fold: str | None = None
    id: int = 0
    captions: tuple[str, ...] = ()
    caption_embedding: Path | None = None
    group: str | None = None


@dataclass(frozen=True)
class ClipSet:
    """Clips in a fixed order.

    Attributes:
        clips: ``clips[i].id == i``.
        source: the folder, manifest or file they come from; caches are kept beside it.
        digest: changes whenever the content of the manifest changes or, for a folder or a saved data set, the name,
            size or time of any file.
    """

    clips: tuple[Clip, ...]
    source: Path
    digest: str

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        return self.clips[index]

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    @cached_property
    def _seconds(self) -> float:
        total = 0.0
        for clip in self.clips:
            try:
                left = max(0.0, info(clip.path).seconds - clip.start)
            except AudioError:
                continue
            total += left if clip.duration is None else min(left, clip.duration)
        return total

    def seconds(self) -> float:
        """Return the total length in seconds; opens every file once, and leaves unreadable ones out."""
        return self._seconds


def listing_digest(files: Iterable[tuple[str, os.stat_result]]) -> str:
    """Digest names, sizes and times of change, which are known without reading the files.

    Args:
        files: name of each, and what the file system says of it.

    Returns:
        32 hex digits.
    """
    lines = [f"{name}\0{status.st_size}\0{status.st_mtime_ns}" for name, status in files]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:32]
