"""Size and SHA-256 of a checkpoint's files, written with them and compared before they are used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

__all__ = ["CHECKSUMS", "find_damage", "write_checksums"]

CHECKSUMS = "checksums.json"


def write_checksums(folder: Path) -> None:
    """Write ``checksums.json`` with bytes and SHA-256 of every other file of a folder."""
    found = {
        path.name: {"bytes": path.stat().st_size, "sha256": _digest(path)}
        for path in sorted(folder.iterdir())
        if path.name != CHECKSUMS
    }
    (folder / CHECKSUMS).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def find_damage(folder: Path, *, content: bool, files: Iterable[str] | None = None) -> tuple[Path, str] | None:
    """Compare files with what was written.

    Args:
        folder: a checkpoint.
        content: read the files and compare their SHA-256; otherwise sizes only, which costs nothing.
        files: names of those to compare; all of them when None.

    Returns:
        The first damaged file and what is wrong with it; None where all are sound, or no checksums are there (a
        checkpoint of version 0.1).
    """
    record = folder / CHECKSUMS
    try:
        written = json.loads(record.read_text(encoding="utf-8"))
        wanted = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in written.items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return record, f"cannot be read ({error!r})"
    for name in wanted if files is None else [one for one in files if one in wanted]:
        path, (size, digest) = folder / name, wanted[name]
        try:
            if path.stat().st_size != size:
                return path, f"has {path.stat().st_size:,} bytes; {size:,} were written"
            if content and _digest(path) != digest:
                return path, "its content is not what was written (SHA-256 differs)"
        except OSError as error:
            return path, f"cannot be read ({error.strerror or error})"
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
