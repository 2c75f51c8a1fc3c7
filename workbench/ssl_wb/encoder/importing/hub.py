"""Files of the Hugging Face hub, named ``hf://OWNER/NAME[/FILE][@REVISION]``: downloaded, cached, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ssl_wb.encoder.importing.files import ENDINGS, file_digest
from ssl_wb.errors import DataError, UsageError

__all__ = ["HubPlace", "fetch", "hub_place", "is_hub"]

SCHEME = "hf://"
FORM = "hf://OWNER/NAME[/FILE][@REVISION]"
PLACE = re.compile(r"hf://([\w.-]+)/([\w.-]+)((?:/[\w.-]+)*)(?:@([\w./-]+))?")
#: A file's name in the hub's cache is the SHA-256 of its content, for large files.
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubPlace:
    """A repository of the hub, a file in it ("" for all), and a revision (None for the newest)."""

    repository: str
    file: str
    revision: str | None


def is_hub(source: str | Path) -> bool:
    """Whether a source is written as a place of the hub."""
    return str(source).startswith(SCHEME)


def hub_place(source: str) -> HubPlace:
    """Read ``hf://OWNER/NAME[/FILE][@REVISION]``.

    Raises:
        UsageError: it is of another form.
    """
    found = PLACE.fullmatch(source)
    if not found:
        raise UsageError(f"{source}: expected {FORM}", hint="as hf://worstchan/EAT-base_epoch30_pretrain@main")
    owner, name, file, revision = found.groups()
    return HubPlace(f"{owner}/{name}", file.removeprefix("/"), revision)


def fetch(source: str) -> tuple[Path, str]:
    """Return a repository's folder or file in the hub's cache, downloaded where it is not there yet.

    Only weights and ``config.json`` are downloaded, no code. ``HF_HUB_OFFLINE=1`` reads the cache alone; ``HF_HOME``
    and ``HF_HUB_CACHE`` name it.

    Args:
        source: :data:`FORM`.

    Returns:
        The folder, or the file that the source names, and the revision as the hub's commit.

    Raises:
        UsageError: no such repository, revision or file, or no network and nothing cached.
        DataError: a file in the cache is damaged.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    place = hub_place(source)
    wanted = [place.file, "**/config.json", "config.json"] if place.file else [f"*{e}" for e in ENDINGS] + ["*.json"]
    try:
        folder = Path(snapshot_download(place.repository, revision=place.revision, allow_patterns=wanted))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError) as error:
        raise UsageError(
            f"{source}: not in the cache, and the hub cannot be reached",
            hint="check the network and HF_HUB_OFFLINE, or download the files elsewhere and name their folder",
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{source}: the hub does not give it ({type(error).__name__}: {reason})",
            hint="is the name right? a private repository needs HF_TOKEN",
        ) from error
    found = folder / place.file if place.file else folder
    if not found.exists():
        raise UsageError(f"{source}: no file {place.file!r} in this revision", hint="look at the repository's files")
    for file in [found] if found.is_file() else sorted(found.iterdir()):
        _check(file, source)
    return found, folder.name


def _check(file: Path, source: str) -> None:
    """Compare a cached file with the checksum that its name in the cache is."""
    name = file.resolve().name
    if SHA256.fullmatch(name) and file_digest(file) != name:
        raise DataError(f"{source}: {file} is not what the hub has (its checksum differs)", hint=f"delete {file}")
