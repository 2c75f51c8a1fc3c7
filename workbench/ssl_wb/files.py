"""Files that are there whole or not at all, and the folders in which computed things are kept."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

__all__ = ["cache_files", "cache_folder", "may_write", "why_not_writable", "write_atomically", "written_aside"]


@contextmanager
def written_aside(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Let the caller write a file or a folder under another name, then rename it to ``path``.

    A reader of ``path`` sees what was there before or the new content, never a part of it. When the body raises,
    what it wrote is removed and ``path`` stays as it was.

    Args:
        path: file or folder to write; its parent folder is made when absent. A folder must not be there yet when the
            body ends.
        sync: flush the content to the disk before the rename. Without it a power failure may leave an empty file under
            ``path``; with it every file costs several milliseconds.

    Yields:
        Where to write: a hidden name beside ``path`` that nothing has yet. It is random, because two threads, or
        processes of two machines on one file system, may write the same file at the same time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield aside
        if sync:
            for written in (*aside.rglob("*"), aside) if aside.is_dir() else (aside,):
                _flush(written)
        aside.replace(path)  # not rename(), which fails on Windows where the file exists
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
    if sync:
        with suppress(OSError):  # Windows opens no folders
            _flush(path.parent)


def _flush(path: Path) -> None:
    """Wait until the content of a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, content: str | bytes, *, sync: bool = True) -> None:
    """Write a file whole or not at all; text as UTF-8, its line ends as they are. See :func:`written_aside`."""
    with written_aside(path, sync=sync) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


def why_not_writable(folder: Path) -> str:
    """Say why a folder cannot be written, by writing and removing a file in it; "" where it can.

    A folder that is absent is not made: the nearest folder above it that exists is tried.
    """
    place = next(one for one in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(one))
    if not place.is_dir():
        return f"{place} is no folder"
    probe = place / f".{secrets.token_hex(4)}.part"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        return f"{place}: {error.strerror or error}"
    return ""


def may_write(folder: Path) -> bool:
    """Make a folder if it is absent, and return whether its permissions allow writing.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Permissions, not os.access: root may write in a folder that is marked read-only, and should not.
    return bool(folder.stat().st_mode & 0o222)


def cache_folder() -> Path | None:
    """Return the user's cache folder of ssl-wb (``~/.cache/ssl-wb`` on Linux), or None where there is no home folder.

    ``XDG_CACHE_HOME`` names another place, as for other programs.
    """
    folder = platformdirs.user_cache_path("ssl-wb", appauthor=False)
    return folder if folder.is_absolute() else None  # "~" is left as it is without a home folder, as in some containers


def cache_files(source: Path, what: str, ending: str) -> tuple[Path | None, Path]:
    """Return where something computed from a source of clips is kept.

    Args:
        source: folder, manifest or file of the clips.
        what: what is kept; part of the file's name.
        ending: of the file's name, without the dot.

    Returns:
        A file in the user's cache, None where there is no home folder; and where versions before 0.2 kept it, which is
        only read: ``.ssl-wb-WHAT.ENDING`` in a folder or ``NAME.WHAT.ENDING`` beside a file.
    """
    beside = (
        source / f".ssl-wb-{what}.{ending}" if source.is_dir() else source.with_name(f"{source.name}.{what}.{ending}")
    )
    name = hashlib.sha256(str(source.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    cache = cache_folder()
    return None if cache is None else cache / f"{what}-{name}.{ending}", beside
