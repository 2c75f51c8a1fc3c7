"""Where things measured or computed from a source of clips are kept: beside it, or in the user's cache folder."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

__all__ = ["cache_files", "may_write"]

log = logging.getLogger("ssl_wb")


def cache_files(source: Path, what: str, ending: str) -> list[Path]:
    """Return where something may be kept, best place first.

    Args:
        source: folder, manifest or file of the clips.
        what: what is kept; part of the file's name.
        ending: of the file's name, without the dot.

    Returns:
        ``.ssl-wb-WHAT.ENDING`` in a folder or ``NAME.WHAT.ENDING`` beside a file, then a file in the user's cache.
    """
    beside = (
        source / f".ssl-wb-{what}.{ending}" if source.is_dir() else source.with_name(f"{source.name}.{what}.{ending}")
    )
    name = hashlib.sha256(str(source.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    places = [beside]
    try:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        places.append(Path(root) / "ssl-wb" / f"{what}-{name}.{ending}")
    except RuntimeError:  # no home folder, as in some containers
        log.debug("no home folder to keep %s in", what)
    return places


def may_write(folder: Path) -> bool:
    """Make a folder where there is none, and say whether it may be written in.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Marked read-only: root could write all the same, and should not.
    return bool(folder.stat().st_mode & 0o222)
