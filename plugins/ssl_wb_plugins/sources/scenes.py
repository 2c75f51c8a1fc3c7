"""Labelled sound scenes made by synthesis, for a quickstart without data.

A scene holds one event of a labelled kind at a random moment, pitch and level, one or two quieter events that
overlap it, and coloured noise. How pitch and level move in time makes the kind of an event. All kinds but the noise
burst share one distribution of pitch, timbre, duration and level. They are each other's mirror in time (rise and fall,
swell and strike) or differ in what is modulated (vibrato, tremolo, trill, pulses, steady): averages of the spectrum
over time say little about them, the local pattern in time and frequency does. A probe on the mean and deviation of
log-mel over time gets about a third of them right (chance is a tenth).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from ssl_wb.api import (
    Clip,
    ClipSet,
    DataError,
    Field,
    PluginOptions,
    Source,
    hookimpl,
    listing_digest,
    write_atomically,
)

#: Kinds of event that carry a label.
KINDS = ("steady", "rise", "fall", "vibrato", "tremolo", "trill", "swell", "strike", "pulses", "burst")
#: Kinds that are never the label: an arch rises and falls, a dip falls and rises, pulses come
#: ever faster or ever slower.
DISTRACTORS = ("arch", "dip", "quickening", "slowing")

Waveform = NDArray[np.float32]

#: Partials stay below this share of the sample rate.
HIGHEST_PARTIAL = 0.45
#: Octaves that the widest glide covers.
DEEPEST = 2.2

#: Changes whenever the same settings no longer give the same scenes.
VERSION = 1
SETTINGS = "scenes.json"
MANIFEST = "manifest.csv"

#: Parts of 20 consecutive rounds over the kinds: 60 % train, 15 % val, 25 % test.
#: Few scenes still have train and test.
PARTS = ("train", "test", "train", "val", "train") * 3 + ("train", "test", "train", "train", "test")


class ScenesOptions(PluginOptions):
    """The labelled sound scenes that stand for the place 'synthetic:scenes'."""

    clips: int = Field(2000, ge=20, description="Number of scenes.")
    seconds: float = Field(2.0, gt=0.1, le=60.0, description="Length of a scene in seconds.")
    seed: int = Field(0, ge=0, description="Seed of the scenes, apart from the seed of training.")


class ScenesSource(Source):
    """Synthesises labelled sound scenes, ten kinds of event over noise, with a fixed split.

    The place ``synthetic:scenes`` stands for them. They are written into the run's folder, where they can be heard.
    """

    name = "scenes"
    scheme = "synthetic"
    rests = ("scenes",)
    generates = True
    has_captions = False
    Options = ScenesOptions
    options: ScenesOptions

    def planned_clips(self, place: str) -> int:
        """Return the number of scenes."""
        return self.options.clips

    def task_name(self, place: str) -> str:
        """Return what their classification is called in tables."""
        return "sound scenes"

    def read(self, place: str, *, folder: Path | None, sample_rate: int) -> ClipSet:
        """Write the scenes unless they are there, and list them; kinds take turns."""
        assert folder is not None
        manifest = write_scenes(folder, self.options, sample_rate)
        clips = tuple(
            Clip(folder / _file_name(index), labels=(_label(index),), split=split_of(index), id=index)
            for index in range(self.options.clips)
        )
        # As of the manifest, read as one.
        files = listing_digest([(_file_name(clip.id), os.stat(str(clip.path))) for clip in clips])  # noqa: PTH116
        return ClipSet(clips, manifest, hashlib.sha256(manifest.read_bytes() + files.encode()).hexdigest()[:32])


@hookimpl
def ssl_wb_sources() -> list[type[Source]]:
    """Register the sound scenes."""
    return [ScenesSource]


def write_scenes(folder: Path, options: ScenesOptions, sample_rate: int = 16000) -> Path:
    """Write the scenes and their manifest (path, label, split), or reuse them when the settings are the same.

    Processes that write the same scenes at once do not disturb each other: all write the same files, each whole.

    Args:
        folder: where; made when absent.
        options: number, length and seed.
        sample_rate: samples per second.

    Returns:
        The manifest.

    Raises:
        DataError: the folder cannot be written.
    """
    settings = {"version": VERSION, "sample_rate": sample_rate, **options.model_dump()}
    wanted = json.dumps(settings, sort_keys=True)
    manifest, record = folder / MANIFEST, folder / SETTINGS
    try:
        if manifest.is_file() and record.is_file() and record.read_text(encoding="utf-8") == wanted:
            return manifest
        folder.mkdir(parents=True, exist_ok=True)
        record.unlink(missing_ok=True)  # a process killed from here on leaves no record, and the next one starts anew
        rows = ["path,label,split"]
        for index in range(options.clips):
            wave, label = scene(options.seed, index, seconds=options.seconds, sample_rate=sample_rate)
            buffer = io.BytesIO()
            soundfile.write(buffer, wave, sample_rate, format="FLAC", subtype="PCM_16")
            # Not flushed to the disk one by one, which would take longer than to synthesise them.
            write_atomically(folder / _file_name(index), buffer.getvalue(), sync=False)
            rows.append(f"{_file_name(index)},{label},{split_of(index)}")
        write_atomically(manifest, "\n".join(rows) + "\n")
        write_atomically(record, wanted)  # last: its presence says that all is there
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(
            f"{folder}: the sound scenes cannot be written ({error})",
            hint="Is the disk full, or the folder not yours to write in?",
        ) from error
    return manifest


def _label(index: int) -> str:
    return KINDS[index % len(KINDS)]


def _file_name(index: int) -> str:
    return f"{index:05d}-{_label(index)}.flac"


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
    label = _label(index)
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


@dataclass(frozen=True)
class Event:
    """One sound event.

    Attributes:
        kind: one of :data:`KINDS` or :data:`DISTRACTORS`.
        duration: seconds.
        pitch: centre of the fundamental in Hz.
        partials: amplitude of each partial of the harmonic carrier.
        roughness: bandwidth in Hz of the random modulation that turns the tone into narrow-band noise; 0 for
            a tone.
        rate: Hz of vibrato, tremolo and trill; pulses per second in the middle.
        depth: octaves that the pitch moves by in all.
        seed: of the event's own noise.
    """

    kind: str
    duration: float
    pitch: float
    partials: tuple[float, ...]
    roughness: float
    rate: float
    depth: float
    seed: int


def draw_event(kind: str, longest: float, sample_rate: int, random: np.random.Generator) -> Event:
    """Draw an event's parameters, alike for all kinds.

    Args:
        kind: what it shall be.
        longest: largest duration in seconds.
        sample_rate: samples per second; at low rates pitch stays below half of it throughout a glide.
        random: source of the draws.
    """
    highest = min(2400.0, HIGHEST_PARTIAL * sample_rate / 2 ** (0.5 * DEEPEST))
    slope = random.uniform(0.3, 0.8)
    depth = {"vibrato": random.uniform(0.35, 0.6), "trill": random.uniform(0.45, 0.8)}
    return Event(
        kind=kind,
        duration=min(longest, random.uniform(0.8, 1.5)),
        pitch=float(2 ** random.uniform(np.log2(300), np.log2(highest))),
        partials=tuple(slope**partial for partial in range(random.integers(1, 6))),
        roughness=random.uniform(20, 60) if random.random() < 0.25 else 0.0,
        rate=random.uniform(4.0, 7.0),
        depth=depth.get(kind, random.uniform(1.2, DEEPEST)),
        seed=int(random.integers(2**31)),
    )


def render(event: Event, sample_rate: int) -> Waveform:
    """Synthesise an event, float32 ``[S]`` with root mean square 1 over its duration."""
    samples = max(16, round(event.duration * sample_rate))
    time = np.arange(samples, dtype=np.float64) / sample_rate  # [S] seconds
    place = (np.arange(samples) + 0.5) / samples  # [S] 0..1 through the event
    random = np.random.default_rng(event.seed)
    if event.kind == "burst":
        wave = noise(samples, sample_rate, random.uniform(-1.0, 1.0), random)
    else:
        octaves = _pitch(event, time, place)  # [S]
        phase = 2 * np.pi * np.cumsum(event.pitch * 2**octaves) / sample_rate  # [S]
        highest = event.pitch * 2 ** octaves.max()
        wave = _carrier(np.mod(phase, 2 * np.pi), event.partials, HIGHEST_PARTIAL * sample_rate / highest)
    if event.roughness:
        # Slow Gaussian noise: linear between independent values, so many a second.
        points = max(4, round(event.roughness * samples / sample_rate))
        values = random.standard_normal(points)
        wave *= np.interp(np.linspace(0, points - 1, samples), np.arange(points), values)
    wave *= _level(event, time, place)
    return np.asarray(wave / max(1e-9, float(np.sqrt(np.mean(wave**2)))), dtype=np.float32)


def _pitch(event: Event, time: NDArray[np.float64], place: NDArray[np.float64]) -> NDArray[np.float64]:
    """Octaves above ``event.pitch`` over the event, ``[S]``."""
    match event.kind:
        case "rise":
            return event.depth * (place - 0.5)
        case "fall":
            return event.depth * (0.5 - place)
        case "arch":
            return event.depth * (0.5 - np.abs(2 * place - 1))
        case "dip":
            return event.depth * (np.abs(2 * place - 1) - 0.5)
        case "vibrato":
            return 0.5 * event.depth * np.sin(2 * np.pi * event.rate * time)
        case "trill":
            return np.asarray(0.5 * event.depth * np.tanh(8 * np.sin(2 * np.pi * event.rate * time)))
        case _:
            return np.zeros_like(time)


def _level(event: Event, time: NDArray[np.float64], place: NDArray[np.float64]) -> NDArray[np.float64]:
    """Envelope ``[S]``; every kind fades in and out over 10 ms, so that no edge clicks."""
    fade = np.minimum(1.0, np.minimum(time, time[::-1]) / 0.01)
    match event.kind:
        case "tremolo":
            return fade * (0.525 - 0.475 * np.cos(2 * np.pi * event.rate * time))
        case "swell":
            return fade * np.exp(-6.0 * (1 - place))
        case "strike":
            return fade * np.exp(-6.0 * place)
        case "pulses":
            return fade * _pulses(event, time, growth=1.0)
        case "quickening":
            return fade * _pulses(event, time, growth=4.0)
        case "slowing":
            return fade * _pulses(event, time, growth=4.0)[::-1]
        case _:
            return fade


def _pulses(event: Event, time: NDArray[np.float64], growth: float) -> NDArray[np.float64]:
    """Pulses ``[S]``, each symmetric in time; their rate grows by the factor ``growth`` over the event."""
    span = np.log(growth)
    rate = event.rate * np.exp(span * (time / time[-1] - 0.5))  # [S] pulses per second
    counted = np.cumsum(rate) * (time[1] - time[0])  # [S] pulses so far
    away = (counted % 1.0 - 0.5) / rate  # [S] seconds from the nearest pulse
    return np.asarray(np.exp(-0.5 * (away / 0.012) ** 2))


def _carrier(phase: NDArray[np.float64], partials: tuple[float, ...], highest: float) -> NDArray[np.float64]:
    """Sum of partials ``[S]``, sin(k phase) by recurrence, up to ``highest`` times the fundamental."""
    before, now = np.zeros_like(phase), np.sin(phase)
    twice = 2 * np.cos(phase)
    wave = partials[0] * now
    for order, amplitude in enumerate(partials[1:], start=2):
        if order > highest:
            break
        before, now = now, twice * now - before
        wave = wave + amplitude * now
    return wave


def noise(samples: int, sample_rate: int, tilt: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Noise ``[S]`` of root mean square 1 whose amplitude falls as ``frequency ** -tilt`` above 50 Hz."""
    spectrum = np.fft.rfft(random.standard_normal(samples, dtype=np.float32))
    frequency = np.maximum(50.0, np.fft.rfftfreq(samples, 1 / sample_rate))
    wave = np.fft.irfft(spectrum * (frequency / 50.0) ** -tilt, samples)
    return np.asarray(wave / max(1e-9, float(np.sqrt(np.mean(wave**2)))))
