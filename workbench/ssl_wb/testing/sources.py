"""The checks of a source of clips."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_wb.audio.clip import Clip, ClipSet
from ssl_wb.plugin.contract_checks import refuse
from ssl_wb.plugin.source import Source
from ssl_wb.testing.checks import Checks, Subject
from ssl_wb.testing.options_checks import common_checks

__all__ = ["CHECKS", "check_source"]

#: Samples per second at which generated clips are wanted.
RATE = 16000

CHECKS: Checks[_Source] = Checks("source", common_checks())


@dataclass(frozen=True)
class _Source(Subject[Source]):
    """A source under test, and a place of its clips where the caller gives one."""

    given: str | Path | None = None

    @property
    def place(self) -> str | None:
        """The place of the caller, or the first that the source generates; None where there is neither."""
        if self.given is not None:
            return str(self.given)
        generated = self.plugin.generates and self.plugin.scheme is not None and self.plugin.rests
        return f"{self.plugin.scheme}:{self.plugin.rests[0]}" if generated else None

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Yield a folder for generated clips, removed afterwards."""
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder, "clips")

    def read(self, folder: Path) -> tuple[Source, ClipSet]:
        """Return the source and the clips of its place."""
        assert self.place is not None
        source = self.build()
        return source, source.read(self.place, folder=folder if source.generates else None, sample_rate=RATE)


def check_source(
    plugin: type[Source],
    options: Mapping[str, Any] | None = None,
    *,
    place: str | Path | None = None,
    skip: Collection[str] = (),
) -> None:
    """Hold a source of clips to its contract.

    Args:
        plugin: the class.
        options: options that differ from their defaults.
        place: a place with some clips, a path or ``SCHEME:REST``; without one only a source that generates its clips
            is read.
        skip: names of checks to leave out.

    Raises:
        ContractError: the first check that fails.
    """
    CHECKS.run(_Source(plugin, options or {}, place), skip)


@CHECKS
def places(subject: _Source) -> None:
    """It has a ``scheme``, and then ``rests`` of it, or it recognises paths: its own, and none that is not there."""
    plugin, place = subject.plugin, subject.place
    if plugin.scheme is None and plugin.rests:
        refuse(plugin, "have a scheme where it names rests", f"rests {plugin.rests!r}")
    if plugin.generates and plugin.scheme is None:
        refuse(plugin, "have a scheme where it generates its clips", "scheme None")
    if plugin.scheme is not None:
        return
    with tempfile.TemporaryDirectory() as folder:
        answer = plugin.recognises(Path(folder, "no such file.xyz"))
    if not isinstance(answer, bool):
        refuse(plugin, "return True or False from recognises", repr(answer))
    if answer:
        refuse(plugin, "recognise files of its own only", "it recognises any name")
    if place is not None and plugin.recognises(Path(place)) is not True:
        refuse(plugin, "recognise the paths that it reads", f"False for {place}")


@CHECKS
def clips(subject: _Source) -> None:
    """It lists clips numbered from 0, with labels and captions only where it says that it may have them."""
    if subject.place is None:
        return
    with subject.folder() as folder:
        source, found = subject.read(folder)
        if not isinstance(found, ClipSet) or not all(isinstance(clip, Clip) for clip in found.clips):
            refuse(source, "return a ClipSet of Clip", type(found).__name__)
        if [clip.id for clip in found] != list(range(len(found))):
            refuse(source, "number its clips from 0: clips[i].id == i", f"ids {[clip.id for clip in found][:5]}")
        if not isinstance(found.digest, str) or not found.digest:
            refuse(source, "give its clips a digest", repr(found.digest))
        if not source.has_labels and any(clip.labels for clip in found):
            refuse(source, "set has_labels where clips have labels", "clips with labels")
        if not source.has_captions and any(clip.captions or clip.caption_embedding for clip in found):
            refuse(source, "set has_captions where clips have captions", "clips with captions")
        planned = source.planned_clips(subject.place)
        if source.generates and planned is not None and planned != len(found):
            refuse(source, "generate as many clips as planned_clips says", f"{len(found)} instead of {planned}")


@CHECKS
def repeatable(subject: _Source) -> None:
    """Reading a place again lists the same clips in the same order, with the same digest."""
    if subject.place is None:
        return
    with subject.folder() as folder:
        source, first = subject.read(folder)
        _, second = subject.read(folder)
        if first.digest != second.digest:
            refuse(source, "have one digest as long as the audio is the same", f"{first.digest} and {second.digest}")
        names = [[(Path(str(clip.path)).name, clip.start, clip.labels) for clip in one] for one in (first, second)]
        if names[0] != names[1]:
            refuse(source, "list clips in an order that depends on the place alone", "another order the second time")
