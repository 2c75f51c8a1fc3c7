"""Small folders of audio."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

RATE = 8000


@pytest.fixture
def write_clip():
    """Write a clip whose sample ``i`` has the value ``(i + 1) / 32768``, so that a crop tells where it was taken."""

    def write(path, samples=4000):
        path.parent.mkdir(parents=True, exist_ok=True)
        ramp = (np.arange(samples) % 32767 + 1).astype(np.int16)
        soundfile.write(path, ramp, RATE, subtype="PCM_16")
        return path

    return write


@pytest.fixture
def make_folder(tmp_path, write_clip):
    """Write clips of the given lengths in samples, at 8 kHz, into a folder."""

    def make(*lengths, name="clips"):
        for index, samples in enumerate(lengths):
            write_clip(tmp_path / name / f"{index:03d}.wav", samples)
        return tmp_path / name

    return make
