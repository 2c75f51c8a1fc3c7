"""Folders of audio files, and single files."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ssl_wb.api import AUDIO_EXTENSIONS, Clip, ClipSet, DataError, Source, hookimpl, listing_digest


class FolderSource(Source):
    """Lists the audio files of a folder and of all folders below it, one clip each, or one audio file.

    Clips are in the order of their relative paths. Hidden files and folders and dangling links are left out.
    """

    name = "folder"
    specificity = 0  # any folder
    has_labels = False
    has_captions = False

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether it is a folder, or a file whose name ends as those of audio."""
        return path.is_dir() or path.suffix.lower() in AUDIO_EXTENSIONS

    def read(self, place: str, *, folder: Path | None, sample_rate: int) -> ClipSet:
        """List the files, in the order of their relative paths."""
        del folder, sample_rate
        path = Path(place)
        if not path.is_dir():
            return ClipSet((Clip(path),), path, listing_digest([(path.name, path.stat())]))
        found: list[tuple[str, os.stat_result]] = []  # relative path with "/", what the file system says of it
        others: set[str] = set()
        for parent, folders, names in os.walk(path, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith("."))  # os.walk goes where this says
            for name in names:
                ending = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path per name is slow
                if ending not in AUDIO_EXTENSIONS or name.startswith("."):
                    others.add(ending or "no ending")
                    continue
                full = Path(parent, name)
                with suppress(OSError):  # a dangling link, or a file that went away
                    found.append((full.relative_to(path).as_posix(), full.stat()))
        if not found:
            seen = f"; it has files ending in {', '.join(sorted(others)[:8])}" if others else "; it is empty"
            raise DataError(
                f"{path}: no audio in this folder or below{seen}",
                hint=f"Looked for {', '.join(sorted(AUDIO_EXTENSIONS))}.",
            )
        found.sort(key=lambda one: one[0])
        clips = tuple(Clip(path / relative, id=index) for index, (relative, _) in enumerate(found))
        return ClipSet(clips, path, listing_digest(found))


@hookimpl
def ssl_wb_sources() -> list[type[Source]]:
    """Register the source of folders."""
    return [FolderSource]
