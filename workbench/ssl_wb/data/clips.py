"""Reading a place: which source it belongs to, and its clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ssl_wb.audio.clip import ClipSet
from ssl_wb.errors import DataError, UsageError, did_you_mean
from ssl_wb.plugin.base import PluginOptions
from ssl_wb.plugin.places import installed_sources, known_places, source_of_path, source_of_text, sources_of_scheme
from ssl_wb.plugin.registry import load_registry
from ssl_wb.plugin.source import Source

__all__ = ["SourceSettings", "find_source", "load_clips"]


@dataclass(frozen=True)
class SourceSettings:
    """What a recipe and its run add to a place.

    Attributes:
        options: options of sources by name, the recipe's tables ``[data.NAME]``; a source that is not in it has its
            defaults.
        run: the run's folder, below which sources write clips that they generate; None where there is no run.
        sample_rate: samples per second of generated clips.
    """

    options: Mapping[str, PluginOptions] = field(default_factory=dict)
    run: Path | None = None
    sample_rate: int = 16000

    def source(self, place: str | Path) -> Source:
        """Build the source of a place; raises as :func:`find_source`."""
        kind = find_source(place)
        return kind(self.options.get(kind.name) or kind.Options())


def find_source(place: str | Path) -> type[Source]:
    """Return the installed source that a place belongs to.

    Text with a source's scheme belongs to that source; of an existing path the sources are asked in the order of their
    ``specificity``.

    Raises:
        DataError: the path is absent, or no source reads it.
    """
    sources = installed_sources(load_registry())
    text = str(place)
    if source := source_of_text(text, sources):
        return source
    if owners := sources_of_scheme(text, sources):
        places = known_places(owners)
        raise DataError(f"{text}: no such place{did_you_mean(text, places)}", hint=f"There are {', '.join(places)}.")
    path = Path(place).expanduser()
    if not path.exists():
        raise DataError(f"{path}: no such folder or file", hint="Give a folder of audio or a manifest CSV.")
    source = source_of_path(path, sources)
    if source is None:
        raise DataError(
            f"{path}: is neither audio nor a manifest CSV",
            hint="Give a folder of audio, or a CSV with a column 'path' and one audio file per line.",
        )
    return source


def load_clips(place: str | Path, settings: SourceSettings | None = None) -> ClipSet:
    """List the clips of a place.

    Args:
        place: a folder of audio, a manifest CSV, the folder of a saved data set, an audio file, or what another
            installed source reads, such as ``synthetic:scenes``; ``~`` is the home folder.
        settings: options of sources and the run's folder; defaults, and no run, unless given.

    Raises:
        DataError: the place is absent, no source reads it, or its content has mistakes (all are reported at once).
        UsageError: the clips are generated for a run, and there is none.
    """
    settings = settings or SourceSettings()
    source = settings.source(place)
    if source.scheme is None:
        place = Path(place).expanduser()
    if not source.generates:
        return source.read(str(place), folder=None, sample_rate=settings.sample_rate)
    if settings.run is None:
        raise UsageError(
            f"{place}: the {source.name} are those of a run, and none is given",
            hint="Name a folder or manifest, such as the manifest below a run folder.",
        )
    return source.read(str(place), folder=settings.run / source.name, sample_rate=settings.sample_rate)
