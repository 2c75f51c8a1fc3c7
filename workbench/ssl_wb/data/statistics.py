"""Mean and standard deviation of the data's log-mel values, measured once and kept in the user's cache."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ssl_wb.audio.clip import ClipSet
from ssl_wb.data.dataset import Crop, CropDataset, UnreadableClips
from ssl_wb.data.order import clips_for
from ssl_wb.errors import DataError
from ssl_wb.files import cache_files, may_write, write_atomically
from ssl_wb.plugin.front_end import FrontEnd

__all__ = ["Statistics", "measure"]

log = logging.getLogger("ssl_wb")

#: Crops measured. M2D takes 10,000; with 2,000 the mean of mixed audio varies by about 0.02.
CROPS = 2000
#: Least standard deviation of log-mel values; below it normalisation would divide by almost nothing.
SMALLEST_STD = 1e-3
#: Crops of which the spectrogram is computed at a time.
BATCH = 32


@dataclass(frozen=True)
class Statistics:
    """Statistics for normalisation.

    Attributes:
        mean: mean of the log-mel values (natural log) over all bands.
        std: their standard deviation.
        crops: number of random crops measured.
        digest: digest of the clips measured.
    """

    mean: float
    std: float
    crops: int
    digest: str


def measure(clips: ClipSet, front_end: FrontEnd, samples: int, *, crops: int = CROPS, seed: int = 0) -> Statistics:
    """Measure log-mel statistics of random crops, or read them from an earlier run's cache.

    Only frames inside a clip count. The cache is a file in the user's cache folder; one that a version before 0.2 wrote
    beside the data is read, too. An entry is used if data, front end, crop length, number of crops and seed are the
    same.

    Args:
        clips: the data to train on.
        front_end: on the CPU; its options of normalisation (``mean``, ``std``, ``std_factor``, ``pad``) and the
            statistics it holds have no effect.
        samples: length of a crop.
        crops: number of random crops.
        seed: seed of the crops.

    Raises:
        DataError: the data is silent or constant.
        AudioError: too many clips are unreadable.
    """
    options = front_end.options
    settings = {
        "front_end": front_end.name,
        **options.model_dump(exclude=set(options.normalisation)),
        "samples": samples,
        "crops": crops,
        "seed": seed,
    }
    key = hashlib.sha256(json.dumps([clips.digest, settings], sort_keys=True).encode()).hexdigest()[:32]
    place, beside = cache_files(clips.source, "statistics", "json")
    for kept in (place, beside):
        known = None if kept is None else _cached(kept, key)
        if known is not None:
            return known
    statistics = _measured(clips, front_end, samples, crops, seed)
    if place is not None:
        _keep(place, key, statistics)
    return statistics


def _measured(clips: ClipSet, front_end: FrontEnd, samples: int, crops: int, seed: int) -> Statistics:
    dataset = CropDataset(clips, front_end.sample_rate, samples, seed)
    unreadable = UnreadableClips(clips.source)
    # Sums of all values and of their squares: hundreds of millions of values are never held at once. Summed in float64,
    # because the variance is the small difference of two large numbers.
    total = square = count = 0.0
    for first in range(0, crops, BATCH):
        keys = clips_for(range(first, min(crops, first + BATCH)), len(clips), seed)
        read: list[Crop] = []
        for key in keys:
            crop = dataset[key]
            unreadable.add(crop.unreadable, first + len(read) + 1)
            read.append(crop)
        waveform = torch.from_numpy(np.concatenate([crop.waveform for crop in read]))  # [B, S], one view each
        lengths = torch.tensor([crop.length for crop in read])  # [B]
        with torch.no_grad():
            log_mel, frames = front_end.log_mel(waveform, lengths)  # [B, F, T], [B]
        inside = torch.arange(log_mel.shape[2]) < frames[:, None]  # [B, T]
        values = log_mel.transpose(1, 2)[inside].double()  # [frames, F]
        total += values.sum().item()
        square += values.square().sum().item()
        count += values.numel()
    mean = total / count
    std = math.sqrt(max(0.0, square / count - mean**2))
    if std < SMALLEST_STD:
        raise DataError(
            f"{clips.source}: the audio is silent or constant (log-mel mean {mean:.3f}, deviation {std:.2g})",
            hint="Check a few files by ear; or give front_end.mean and front_end.std.",
        )
    return Statistics(round(mean, 6), round(std, 6), crops, clips.digest)


def _cached(place: Path, key: str) -> Statistics | None:
    """Read one entry of a cache file; None if there is none, or its values cannot be statistics."""
    entry = _entries(place).get(key)
    try:
        known = Statistics(**entry) if isinstance(entry, dict) else None
        valid = known is not None and math.isfinite(known.mean) and math.isfinite(known.std) and known.std > 0
    except TypeError:
        return None
    return known if valid else None


def _entries(place: Path) -> dict[str, object]:
    """Read all entries of a cache file; a damaged file counts as empty."""
    try:
        entries = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _keep(place: Path, key: str, statistics: Statistics) -> None:
    """Add an entry to a cache file, if it can be written."""
    entries = _entries(place) | {key: asdict(statistics)}
    try:
        if may_write(place.parent):
            write_atomically(place, json.dumps(entries, indent=1))
    except OSError as error:
        log.debug("statistics not kept in %s: %s", place, error)
