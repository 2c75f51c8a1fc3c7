"""Sources of clips: a folder of audio, a manifest CSV, a saved data set, or one file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ssl_wb.audio.decode import EXTENSIONS, StoredAudio, info
from ssl_wb.errors import AudioError, DataError

__all__ = ["Clip", "ClipSet", "load_clips"]


@dataclass(frozen=True, slots=True)
class Clip:
    """A file, or a stretch of one.

    Attributes:
        path: the audio file, or audio stored within something larger.
        start: seconds into the file.
        duration: seconds, or None up to the file's end.
        labels: what the manifest says is heard.
        split: part of a fixed split ("train", "val", "test"), where given.
        fold: cross-validation fold, where given.
        id: index within its set.
        captions: sentences that say what is heard, each of them enough.
        caption_embedding: file with embeddings of such sentences, float ``[C]`` or ``[k, C]``.
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


@dataclass(frozen=True)
class ClipSet:
    """Clips in a fixed order.

    Attributes:
        clips: ``clips[i].id == i``.
        source: the folder, manifest or file they come from.
        digest: changes whenever the manifest's content does or, for a folder or a saved data set, any file's name,
            size or time.
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
        """Length of all clips in seconds; opens every file once, and leaves unreadable ones out."""
        return self._seconds


def load_clips(source: str | Path) -> ClipSet:
    """Read a source of clips.

    Args:
        source: a folder (searched recursively, files in the order of their relative paths), a manifest CSV,
            the folder of a saved data set (see :mod:`ssl_wb.data.arrow`), or one audio file. A manifest has the
            column ``path`` (relative to the manifest) and may have ``label`` (several separated by ``;``), ``split``,
            ``fold``, ``start`` and ``duration`` (seconds), ``caption`` (alternatives separated by ``|``) and
            ``caption_embedding`` (a .npy file, relative to the manifest); other columns are ignored.

    Raises:
        DataError: the source is absent, holds no audio, or the manifest has mistakes (all told at once); a saved data
            set cannot be opened.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        from ssl_wb.data.arrow import is_dataset, read_dataset

        return ClipSet(*read_dataset(path)) if is_dataset(path) else _from_folder(path)
    if not path.exists():
        raise DataError(f"{path}: no such folder or file", hint="Give a folder of audio or a manifest CSV.")
    if path.suffix.lower() in EXTENSIONS:
        status = path.stat()
        return ClipSet((Clip(path),), path, _digest([f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}"]))
    if path.suffix.lower() not in {".csv", ".txt", ""}:
        raise DataError(
            f"{path}: is neither audio nor a manifest CSV",
            hint="Give a folder of audio, or a CSV with a column 'path' and one audio file per line.",
        )
    from ssl_wb.data.manifest import read_manifest

    clips, content = read_manifest(path)
    return ClipSet(clips, path, hashlib.sha256(content).hexdigest()[:32])


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _from_folder(folder: Path) -> ClipSet:
    found: list[tuple[str, str]] = []  # (relative path with '/', listing line)
    others: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            ending = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path per name is slow
            if ending not in EXTENSIONS or name.startswith("."):
                others.add(ending or "no ending")
                continue
            full = Path(parent, name)
            status = full.stat() if full.exists() else None
            if status is None:  # a dangling link
                continue
            relative = full.relative_to(folder).as_posix()
            found.append((relative, f"{relative}\0{status.st_size}\0{status.st_mtime_ns}"))
    if not found:
        seen = f"; it has files ending in {', '.join(sorted(others)[:8])}" if others else "; it is empty"
        raise DataError(
            f"{folder}: no audio in this folder or below{seen}",
            hint=f"Looked for {', '.join(sorted(EXTENSIONS))}.",
        )
    found.sort()
    clips = tuple(Clip(folder / relative, id=index) for index, (relative, _) in enumerate(found))
    return ClipSet(clips, folder, _digest([line for _, line in found]))
