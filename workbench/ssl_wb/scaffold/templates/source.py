"""A source: where clips come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from ssl_wb.api import Clip, ClipSet, Field, PluginOptions, Source, hookimpl


class NewPluginOptions(PluginOptions):
    """Options: every one has bounds and a description."""

    clips: int = Field(64, ge=10, le=100_000, description="Number of clips.")


class NewPlugin(Source):
    """Makes clips of two seconds, one tone each, labelled low or high; the place is ``new-plugin:tones``.

    A source of files has no scheme: it implements ``recognises(path)`` instead.
    """

    name = "new-plugin"
    reference = ""
    scheme = "new-plugin"
    rests = ("tones",)
    generates = True
    has_captions = False
    Options = NewPluginOptions
    options: NewPluginOptions

    def planned_clips(self, place: str) -> int:
        """Return the number of clips."""
        del place
        return self.options.clips

    def read(self, place: str, *, folder: Path | None, sample_rate: int) -> ClipSet:
        """Write the clips and list them."""
        del place
        assert folder is not None  # of a source that generates
        folder.mkdir(parents=True, exist_ok=True)
        time = np.arange(2 * sample_rate) / sample_rate  # [S]
        clips = []
        for number in range(self.options.clips):
            high = number % 2 == 1
            path = folder / f"{number}.wav"
            soundfile.write(path, 0.1 * np.sin(2 * np.pi * (300 + 600 * high + number % 50) * time), sample_rate)
            clips.append(Clip(path, labels=("high" if high else "low",), id=number))
        return ClipSet(tuple(clips), folder, f"new-plugin {self.options.clips} {sample_rate}")


@hookimpl
def ssl_wb_sources() -> list[type[Source]]:
    """Offer this source."""
    return [NewPlugin]
