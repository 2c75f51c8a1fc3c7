"""Which clips are of one recording: they never stand on both sides of a split."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_wb.audio.clip import Clip
from ssl_wb.plugin.task import Task

__all__ = ["FileNames", "composed", "recordings_of"]


def composed(text: str) -> str:
    """Return text in Unicode's composed form (NFC), so that an accent has one spelling."""
    return unicodedata.normalize("NFC", text)


class FileNames(dict[Path, str]):
    """The resolved name of each file; links and other Unicode forms of a name give the same one."""

    def __init__(self) -> None:
        super().__init__()
        self._folders: dict[Path, str] = {}

    def __missing__(self, path: Path) -> str:
        # Folders are resolved once: resolving each of two million files would take minutes.
        folder = self._folders.get(path.parent)
        if folder is None:
            folder = self._folders[path.parent] = os.path.realpath(path.parent)
        name = os.path.realpath(path) if path.is_symlink() else f"{folder}{os.sep}{path.name}"
        self[path] = composed(name)
        return self[path]


def recordings_of(clips: Sequence[Clip], known: type[Task] | None = None) -> NDArray[np.int64]:
    """Number the recordings that clips are taken from.

    Clips are of one recording if they are of one file, if they have the same ``group``, or, without a group, if the
    shipped task reads the same source from their file names. A clip that shares its file with one clip and its group
    with another joins both.

    Args:
        clips: the task's clips.
        known: the shipped task that the manifest is named after.

    Returns:
        int64 ``[clips]``, numbered in order of first appearance.
    """
    files = FileNames()
    parent: list[int] = []  # a forest over recordings: a root is its own parent
    of_key: dict[Hashable, int] = {}

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]  # shortens the way of the next search
            number = parent[number]
        return number

    found = []
    for clip in clips:
        keys: list[Hashable] = [("file", files[clip.path] if isinstance(clip.path, Path) else clip.path.stamp)]
        if clip.group:
            keys.append(("group", composed(clip.group)))
        elif known is not None and (source := known.recording_of(clip.path.name)) is not None:
            keys.append(("source", source))
        roots = sorted({root(of_key[key]) for key in keys if key in of_key}) or [len(parent)]
        if roots[0] == len(parent):
            parent.append(roots[0])
        for other in roots:
            parent[other] = roots[0]
        for key in keys:
            of_key[key] = roots[0]
        found.append(roots[0])
    first: dict[int, int] = {}
    return np.array([first.setdefault(root(number), len(first)) for number in found], dtype=np.int64)
