"""Which source of clips a place belongs to: the path of a file or folder, or text such as ``synthetic:scenes``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from ssl_wb.plugin.registry import Registry
    from ssl_wb.plugin.source import Source  # imports torch, which reading a recipe's text should not

__all__ = ["installed_sources", "known_places", "schemes_of", "source_of_path", "source_of_text", "sources_of_scheme"]


def installed_sources(registry: Registry) -> list[type[Source]]:
    """Return the sources of clips among the plugins."""
    return cast("list[type[Source]]", registry.classes("source"))


def schemes_of(sources: Sequence[type[Source]]) -> frozenset[str]:
    """Return the schemes of sources, as ``synthetic`` of ``synthetic:scenes``."""
    return frozenset(source.scheme for source in sources if source.scheme is not None)


def sources_of_scheme(place: str, sources: Sequence[type[Source]]) -> list[type[Source]]:
    """Return the sources that share the scheme of a place; none for a path.

    Args:
        place: as a user writes it.
        sources: the installed ones.
    """
    scheme, colon, _ = place.partition(":")
    return [source for source in sources if colon and source.scheme == scheme]


def source_of_text(place: str, sources: Sequence[type[Source]]) -> type[Source] | None:
    """Return the source of a ``SCHEME:REST``; None for a path, and for a REST that no source of the scheme knows."""
    rest = place.partition(":")[2]
    owners = sources_of_scheme(place, sources)
    return next((source for source in owners if not source.rests or rest in source.rests), None)


def source_of_path(path: Path, sources: Sequence[type[Source]]) -> type[Source] | None:
    """Return the source that reads a file or folder, the most specific one first; None if no source does.

    Args:
        path: what exists.
        sources: the installed ones.
    """
    asked = sorted(sources, key=lambda source: (-source.specificity, source.name))
    return next((source for source in asked if source.scheme is None and source.recognises(path)), None)


def known_places(sources: Sequence[type[Source]]) -> list[str]:
    """Return every ``SCHEME:REST`` that sources know by name, sorted."""
    return sorted(f"{source.scheme}:{rest}" for source in sources for rest in source.rests)
