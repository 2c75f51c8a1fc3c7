"""Sources of clips: a folder of audio, a manifest CSV, a saved data set, or one file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ssl_wb.audio.clip import Clip, ClipSet
from ssl_wb.audio.decode import EXTENSIONS
from ssl_wb.errors import DataError

__all__ = ["load_clips"]


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
