"""Folders of audio files, and single files."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ssl_wb.api import AUDIO_EXTENSIONS, Clip, ClipSet, DataError, Source, hookimpl, listing_digest

log = logging.getLogger("ssl_wb")

#: Endings of recordings that libsndfile does not decode: a user expects them to be read.
NOT_READ = frozenset(
    f".{ending}"
    for ending in (
        *("m4a", "aac", "wma", "webm", "mp4", "m4b", "mka", "mkv", "mov", "avi", "3gp", "amr", "ac3", "dts", "ape"),
        *("wv", "mpc", "tta", "alac", "mp2", "mpga", "sph", "ra", "rm", "weba", "spx", "mpg", "mpeg", "flv", "dsf"),
    )
)


class FolderSource(Source):
    """Lists the audio files of a folder and of all folders below it, one clip each, or one audio file.

    Clips are in the order of their relative paths. Hidden files and folders, dangling links and links to a folder that
    contains the link are left out. A warning counts recordings in formats that are not read, and such links.
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
        others: Counter[str] = Counter()  # files by ending
        for parent, names in _walk(path):
            for name in names:
                ending = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path per name is slow
                if ending not in AUDIO_EXTENSIONS or name.startswith("."):
                    others[ending or "no ending"] += not name.startswith(".")
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
        _tell_left_out(path, others)
        found.sort(key=lambda one: one[0])
        clips = tuple(Clip(path / relative, id=index) for index, (relative, _) in enumerate(found))
        return ClipSet(clips, path, listing_digest(found))


def _walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder with the names of its files; links are followed, but not to a folder that contains them.

    Such a link makes a loop, and each file in it would be listed until the system gives up, about 40 times.
    """
    looped: list[str] = []
    for parent, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))  # os.walk goes where this says
        for link in [link for link in (Path(parent, name) for name in folders) if link.is_symlink()]:
            # By real paths, and of the folder that is listed all that contain it: links may pass through others.
            listed = [one for one in (Path(parent), *Path(parent).parents) if one.is_relative_to(root)]
            containing = {one.resolve() for one in listed} | set(root.resolve().parents)
            if link.resolve() in containing:
                folders.remove(link.name)
                looped.append(str(link))
        yield parent, names
    if looped:
        log.warning(
            "%s: %d link(s) to a folder that contains them are not followed, such as %s", root, len(looped), looped[0]
        )


def _tell_left_out(path: Path, others: Counter[str]) -> None:
    """Warn of recordings in formats that are not read."""
    left_out = {ending: count for ending, count in sorted(others.items()) if ending in NOT_READ and count}
    if left_out:
        kinds = ", ".join(f"{count} {ending}" for ending, count in left_out.items())
        log.warning(
            "%s: %d file(s) in formats that are not read are left out (%s); convert them to FLAC, say with ffmpeg",
            path,
            sum(left_out.values()),
            kinds,
        )


@hookimpl
def ssl_wb_sources() -> list[type[Source]]:
    """Register the source of folders."""
    return [FolderSource]
