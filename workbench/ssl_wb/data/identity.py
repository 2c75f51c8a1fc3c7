"""Whether the clips of a resumed run are those that it began with."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from ssl_wb.audio.clip import Clip, ClipSet
from ssl_wb.errors import RunFolderError

__all__ = ["check_identity", "describe_identity"]

log = logging.getLogger("ssl_wb")

#: Files whose content is compared where only times changed, spread evenly over the clips.
SAMPLE = 256
#: Bytes read of each.
BYTES = 1 << 16


def describe_identity(clips: ClipSet) -> dict[str, Any]:
    """Return what the clips are known by: number, digest of files' sizes and times, names, and content of a sample."""
    return {"source": str(clips.source), "clips": len(clips), "digest": clips.digest, **_without_times(clips)}


def check_identity(clips: ClipSet, record: Path) -> None:
    """Refuse to resume with other clips than a run began with.

    Files that were copied have other times: they are the same if their names are, and the content of a sample.

    Args:
        clips: of now.
        record: file with what :func:`describe_identity` returned when the run began; older versions wrote none.

    Raises:
        RunFolderError: clips were added, removed, renamed or changed.
    """
    try:
        before = json.loads(record.read_text(encoding="utf-8"))
        if before["digest"] == clips.digest or before["clips"] != len(
            clips
        ):  # the number is checked with the schedules
            return
        changes = [key for key, value in _without_times(clips).items() if before[key] != value]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{record}: cannot be read ({error!r})", hint="Remove it to go on without it.") from error
    if not changes:
        log.warning(
            "%s: the files' times changed since the run began; names and content of %d files are as they were",
            clips.source,
            min(SAMPLE, len(clips)),
        )
        return
    what = "other names or stretches" if "names" in changes else "another content"
    raise RunFolderError(
        f"{clips.source}: the data changed since the run began: its files have {what}",
        hint="Restore the data, or start another run: a resumed run would not be the one that was stopped.",
    )


def _without_times(clips: ClipSet) -> dict[str, str]:
    """Return digests of all names and stretches, and of sizes and content of a sample."""
    names, sample = hashlib.sha256(), hashlib.sha256()
    root = clips.source if clips.source.is_dir() else clips.source.parent
    for clip in clips:
        name = os.path.relpath(clip.path, root) if isinstance(clip.path, Path) else clip.path.name
        names.update(f"{name}\0{clip.start}\0{clip.duration}\n".encode("utf-8", "surrogateescape"))
    for index in sorted({number * len(clips) // SAMPLE for number in range(SAMPLE)}):
        sample.update(_content(clips[index]))
    return {"names": names.hexdigest()[:32], "sample": sample.hexdigest()[:32]}


def _content(clip: Clip) -> bytes:
    """Return the size of a clip's file and its first bytes."""
    try:
        with clip.path.open("rb") if isinstance(clip.path, Path) else clip.path.open() as file:
            start = file.read(BYTES)
            return file.seek(0, os.SEEK_END).to_bytes(8, "big") + start
    except Exception as error:  # whatever a source raises where its audio is gone: it is told when it is read
        return type(error).__name__.encode()
