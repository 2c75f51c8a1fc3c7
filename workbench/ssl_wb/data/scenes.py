"""The workbench's own labelled sound scenes, for a quickstart without data.

A scene holds one event of a labelled kind at a random moment, pitch and level, one or two quieter events that
overlap it, and coloured noise. The kinds (see :mod:`ssl_wb.data.synthesis`) share their long-term spectra, so
that a probe on the mean and deviation of log-mel over time gets about a third of them right (chance is a
tenth); what is left needs the pattern itself.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from ssl_wb.data.synthesis import DISTRACTORS, KINDS, draw_event, noise, render
from ssl_wb.errors import DataError
from ssl_wb.files import write_atomically
from ssl_wb.recipe.schema import ScenesSection

__all__ = ["KINDS", "scene", "split_of", "write_scenes"]

#: Changes whenever the same settings no longer give the same scenes.
VERSION = 1
SETTINGS = "scenes.json"
MANIFEST = "manifest.csv"

#: Parts of 20 consecutive rounds over the kinds: 60 % train, 15 % val, 25 % test.
#: Few scenes still have train and test.
PARTS = ("train", "test", "train", "val", "train") * 3 + ("train", "test", "train", "train", "test")


def scene(seed: int, index: int, *, seconds: float = 2.0, sample_rate: int = 16000) -> tuple[NDArray[np.float32], str]:
    """Synthesise one scene; a pure function of its arguments.

    Args:
        seed: seed of the set of scenes.
        index: which scene; kinds take turns.
        seconds: length.
        sample_rate: samples per second.

    Returns:
        float32 ``[S]`` within -1..1, and the label, one of :data:`KINDS`.
    """
    random = np.random.default_rng([seed, index])
    samples = round(seconds * sample_rate)
    label = KINDS[index % len(KINDS)]
    wave = noise(samples, sample_rate, random.uniform(0.0, 1.0), random)  # [S]
    loudness = random.uniform(12.0, 24.0)  # dB of the labelled event over the background
    kinds = [
        label,
        *random.choice([kind for kind in (*KINDS, *DISTRACTORS) if kind != label], random.integers(1, 3)),
    ]
    for place, kind in enumerate(kinds):
        event = render(draw_event(str(kind), 0.8 * seconds, sample_rate, random), sample_rate)[:samples]  # [S_event]
        level = loudness - (random.uniform(12.0, 20.0) if place else 0.0)
        onset = random.integers(samples - len(event) + 1)
        wave[onset : onset + len(event)] += 10 ** (level / 20) * event
    peak = 10 ** (random.uniform(-24.0, -3.0) / 20)
    return np.asarray(wave * (peak / np.abs(wave).max()), dtype=np.float32), label


def split_of(index: int) -> str:
    """Part of the fixed split that a scene belongs to; every kind is divided alike."""
    return PARTS[index // len(KINDS) % len(PARTS)]


def write_scenes(folder: Path, section: ScenesSection, sample_rate: int = 16000) -> Path:
    """Write the scenes and their manifest (path, label, split), or reuse them when the settings are the same.

    Args:
        folder: where; made when absent.
        section: number, length and seed.
        sample_rate: samples per second.

    Returns:
        The manifest.

    Raises:
        DataError: the folder cannot be written.
    """
    settings = {"version": VERSION, "sample_rate": sample_rate, **section.model_dump()}
    wanted = json.dumps(settings, sort_keys=True)
    manifest, record = folder / MANIFEST, folder / SETTINGS
    try:
        if manifest.is_file() and record.is_file() and record.read_text(encoding="utf-8") == wanted:
            return manifest
        folder.mkdir(parents=True, exist_ok=True)
        record.unlink(missing_ok=True)  # whoever is killed from here on leaves no record, and is begun anew
        rows = [["path", "label", "split"]]
        for index in range(section.clips):
            wave, label = scene(section.seed, index, seconds=section.seconds, sample_rate=sample_rate)
            name = f"{index:05d}-{label}.flac"
            # Not flushed to the disk one by one, which would take longer than to synthesise them.
            write_atomically(folder / name, _flac(wave, sample_rate), sync=False)
            rows.append([name, label, split_of(index)])
        write_atomically(manifest, "".join(",".join(row) + "\n" for row in rows))
        write_atomically(record, wanted)  # last: its presence says that all is there
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(
            f"{folder}: the sound scenes cannot be written ({error})",
            hint="Is the disk full, or the folder not yours to write in?",
        ) from error
    return manifest


def _flac(wave: NDArray[np.float32], sample_rate: int) -> bytes:
    """Encode a waveform ``[S]`` as 16-bit FLAC."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, sample_rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()
