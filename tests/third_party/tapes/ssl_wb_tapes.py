"""Two sources of clips: a list in JSON Lines, and beeps made on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from ssl_wb.api import Clip, ClipSet, DataError, Field, PluginOptions, Source, hookimpl, listing_digest


class JsonLines(Source):
    """Lists the clips of a .jsonl file: an object with ``audio`` and, where known, ``label`` on each line."""

    name = "json-lines"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the name ends in .jsonl."""
        return path.suffix == ".jsonl"

    def read(self, place: str, *, folder: Path | None, sample_rate: int) -> ClipSet:
        """List the lines, in their order."""
        path = Path(place)
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            clips = tuple(
                Clip(path.parent / row["audio"], labels=(row["label"],) if "label" in row else (), id=index)
                for index, row in enumerate(rows)
            )
        except (ValueError, KeyError) as error:
            raise DataError(
                f"{path}: cannot be read as JSON Lines ({error})", hint="Each line needs 'audio'."
            ) from error
        return ClipSet(clips, path, listing_digest([(path.name, path.stat())]))


class BeepOptions(PluginOptions):
    """Options of the beeps."""

    clips: int = Field(30, ge=10, description="Number of beeps.")


class Beeps(Source):
    """Makes short beeps, labelled low or high; the place is ``synthetic:beeps``."""

    name = "beeps"
    scheme = "synthetic"
    rests = ("beeps",)
    generates = True
    has_captions = False
    Options = BeepOptions
    options: BeepOptions

    def planned_clips(self, place: str) -> int:
        """Return the number of beeps."""
        return self.options.clips

    def read(self, place: str, *, folder: Path | None, sample_rate: int) -> ClipSet:
        """Write the beeps and list them."""
        assert folder is not None
        folder.mkdir(parents=True, exist_ok=True)
        time = np.arange(sample_rate) / sample_rate  # [S], one second
        clips = []
        for index in range(self.options.clips):
            high = index % 2
            path = folder / f"{index}.wav"
            soundfile.write(path, 0.1 * np.sin(2 * np.pi * (300 + 600 * high + index) * time), sample_rate)
            clips.append(Clip(path, labels=("high" if high else "low",), id=index))
        return ClipSet(tuple(clips), folder, f"beeps {self.options.clips} {sample_rate}")


@hookimpl
def ssl_wb_sources() -> list[type[Source]]:
    """Register both."""
    return [JsonLines, Beeps]
