"""Loading: random crops of clips, in batches that are the same for any number of workers and processes."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ssl_wb.audio.clip import ClipSet
from ssl_wb.audio.decode import info, read_samples
from ssl_wb.data.augmenter import Augmenter
from ssl_wb.data.captions import CaptionTable
from ssl_wb.data.order import caption_random, clips_for, random_below, random_for, view_random
from ssl_wb.errors import AudioError, UsageError, WorkbenchError

__all__ = ["Batch", "Crop", "CropDataset", "batches", "check_batch", "resolve_workers"]

log = logging.getLogger("ssl_wb")

#: Unreadable clips are replaced until there are this many of them and they are this share of what was read.
TOLERATED = 10
TOLERATED_SHARE = 0.01


@dataclass(frozen=True)
class Batch:
    """One micro-batch of one process.

    Attributes:
        waveform: float32 ``[b, V, S]``, the readings of each clip, zeros past its end; ``V`` is 1 without
            augmentation.
        lengths: int64 ``[b]``, samples that count.
        clips: int64 ``[b]``, index of each clip in its set.
        first_row: place of the first clip within the global batch of its step.
        captions: float32 ``[b, C]``, embedding of one caption of each clip; None where the data has none.
    """

    waveform: Tensor
    lengths: Tensor
    clips: Tensor
    first_row: int
    captions: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Copy to a device, without waiting for it where memory is pinned."""
        return Batch(
            self.waveform.to(device, non_blocking=True),
            self.lengths.to(device, non_blocking=True),
            self.clips.to(device, non_blocking=True),
            self.first_row,
            None if self.captions is None else self.captions.to(device, non_blocking=True),
        )


class Crop(NamedTuple):
    """One crop.

    Attributes:
        waveform: float32 ``[V, S]``, its readings.
        length: samples that count.
        clip: index of the clip it was read from (another than asked for where that one is unreadable).
        caption: float32 ``[C]``, or None.
    """

    waveform: NDArray[np.float32]
    length: int
    clip: int
    caption: NDArray[np.float32] | None = None


class CropDataset(Dataset[Crop]):
    """Random crops; an item is a pure function of (seed, epoch, clip index).

    All readings of an item are of one crop; each is augmented in its own way, by (seed, epoch, clip index, view).

    One unreadable file does not end a run: it is warned about once and replaced by the clip after it. When at
    least 10 clips and more than 1 % of those read so far (by this process) are unreadable, the run stops.

    Args:
        clips: where crops come from.
        sample_rate: samples per second of the crops.
        samples: length of a crop.
        seed: seed of the crops' positions, augmentations and captions.
        short: a clip shorter than the crop is followed by zeros and keeps its own length ("zeros"), or is
            repeated until the crop is full ("repeat").
        augment: changes each reading; None leaves the crop as it is, read once.
        views: readings of each crop where they are augmented.
        captions: one caption of its clip goes with each crop; none when None.
    """

    def __init__(
        self,
        clips: ClipSet,
        sample_rate: int,
        samples: int,
        seed: int,
        short: Literal["zeros", "repeat"] = "zeros",
        *,
        augment: Augmenter | None = None,
        views: int = 1,
        captions: CaptionTable | None = None,
    ) -> None:
        self.clips = clips
        self.sample_rate = sample_rate
        self.samples = samples
        self.seed = seed
        self.short = short
        self.augment = augment
        self.views = views
        self.captions = captions
        self.reads = 0
        self.unreadable: dict[int, str] = {}
        self._available: dict[int, int] = {}  # samples of each clip seen so far

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int]) -> Crop:
        """Read one crop.

        Args:
            key: epoch and clip index.

        Raises:
            AudioError: too many clips are unreadable.
            DataError: an augmentation failed.
        """
        epoch, index = key
        for step in range(len(self.clips)):
            candidate = (index + step) % len(self.clips)
            if candidate in self.unreadable:
                continue
            self.reads += 1
            try:
                crop, length = self._filled(self.crop(epoch, candidate))
            except AudioError as error:
                self._note(candidate, error)
            else:
                return Crop(
                    self._readings(crop, length, epoch, candidate), length, candidate, self._caption(epoch, candidate)
                )
        raise self._too_many()

    def _readings(self, crop: NDArray[np.float32], length: int, epoch: int, index: int) -> NDArray[np.float32]:
        """Make the readings ``[V, samples]`` of one crop ``[samples]``."""
        if self.augment is None:
            return crop[None]
        randomness = (view_random(self.seed, epoch, index, view) for view in range(self.views))
        return np.stack([self.augment(crop, length, generator) for generator in randomness])

    def _caption(self, epoch: int, index: int) -> NDArray[np.float32] | None:
        if self.captions is None:
            return None
        return self.captions.row(index, caption_random(self.seed, epoch, index))

    def crop(self, epoch: int, index: int) -> NDArray[np.float32]:
        """Read a random stretch of one clip, float32 ``[S]`` with ``S`` at most ``samples``."""
        clip = self.clips[index]
        first = round(clip.start * self.sample_rate)
        available = self._length_of(index)
        if available > self.samples:
            generator = random_for(self.seed, epoch, index)
            first += random_below(generator, available - self.samples + 1)
        return read_samples(clip.path, self.sample_rate, first, min(self.samples, available))

    def _length_of(self, index: int) -> int:
        """Samples of a clip at our rate, at least 1."""
        if index not in self._available:
            clip = self.clips[index]
            left = info(clip.path).samples_at(self.sample_rate) - round(clip.start * self.sample_rate)
            if clip.duration is not None:
                left = min(left, round(clip.duration * self.sample_rate))
            self._available[index] = max(1, left)
        return self._available[index]

    def _filled(self, crop: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
        """Bring a crop to full length: float32 ``[samples]`` and how many of them count."""
        if len(crop) == self.samples:
            return crop, self.samples
        if self.short == "repeat":
            return np.resize(crop, self.samples), self.samples
        return np.pad(crop, (0, self.samples - len(crop))), len(crop)

    def _note(self, index: int, error: AudioError) -> None:
        """Remember an unreadable clip; AudioError when it is one too many."""
        self.unreadable[index] = error.message
        log.warning("unreadable clip, replaced by the next one: %s", error.message)
        if len(self.unreadable) >= TOLERATED and len(self.unreadable) > TOLERATED_SHARE * self.reads:
            raise self._too_many()

    def _too_many(self) -> AudioError:
        some = list(self.unreadable.values())[:5]
        more = len(self.unreadable) - len(some)
        lines = [
            f"{self.clips.source}: {len(self.unreadable)} clips cannot be read",
            *(f"  - {line}" for line in some),
        ]
        if more:
            lines.append(f"  - and {more} more")
        return AudioError(
            "\n".join(lines),
            hint="Is the disk still there? Otherwise repair these files or take them out of the data.",
        )


class _Guarded(Dataset[Crop | WorkbenchError]):
    """Hands expected errors over as values; a DataLoader would turn them into text with a traceback."""

    def __init__(self, dataset: CropDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Crop | WorkbenchError:
        try:
            return self.dataset[key]
        except WorkbenchError as error:
            return error


@dataclass(frozen=True)
class _Plan(Sampler[list[tuple[int, int]]]):
    """Which clips each micro-batch of one process takes; iterates lists of (epoch, clip index)."""

    count: int
    seed: int
    first_sample: int
    global_batch: int
    steps: int
    accumulate: int
    rank: int
    world: int

    @property
    def rows(self) -> int:
        return self.global_batch // (self.world * self.accumulate)

    def first_row(self, micro_batch: int) -> int:
        """Place within the global batch at which this process's ``micro_batch`` begins."""
        return (micro_batch * self.world + self.rank) * self.rows

    def __len__(self) -> int:
        return self.steps * self.accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.steps):
            for micro_batch in range(self.accumulate):
                first = self.first_sample + step * self.global_batch + self.first_row(micro_batch)
                yield clips_for(range(first, first + self.rows), self.count, self.seed)


def check_batch(global_batch: int, world: int, accumulate: int) -> None:
    """Refuse a global batch that does not divide over processes and micro-batches.

    Raises:
        UsageError: it does not.
    """
    if global_batch % (world * accumulate):
        raise UsageError(
            f"a batch of {global_batch} clips cannot be divided evenly: {world} process(es) "
            f"with {accumulate} micro-batch(es) each",
            hint=f"Set train.batch_size to a multiple of {world * accumulate}.",
        )


def batches(
    dataset: CropDataset,
    *,
    seed: int,
    first_sample: int,
    global_batch: int,
    steps: int,
    accumulate: int = 1,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """Load the micro-batches of one process: ``steps * accumulate`` of them.

    Step ``k`` covers positions ``first_sample + k * global_batch ...`` of the endless stream. Within it,
    micro-batch ``m`` of process ``r`` takes the ``b = global_batch / (world * accumulate)`` rows that begin
    at ``(m * world + r) * b``.

    Args:
        dataset: the crops.
        seed: seed of the order.
        first_sample: clips seen before, by all processes together.
        global_batch: clips per optimiser step over all processes.
        steps: optimiser steps to load for.
        accumulate: micro-batches per step and process.
        rank: this process.
        world: number of processes.
        workers: processes that decode; 0 decodes here.

    Raises:
        UsageError: the global batch does not divide evenly.
        AudioError: too many clips are unreadable.
    """
    check_batch(global_batch, world, accumulate)
    plan = _Plan(len(dataset), seed, first_sample, global_batch, steps, accumulate, rank, world)
    return _loaded(dataset, plan, workers)


def _loaded(dataset: CropDataset, plan: _Plan, workers: int) -> Iterator[Batch]:
    """Run the DataLoader; its workers end when this generator is closed or dropped."""
    loader = DataLoader(
        _Guarded(dataset),
        batch_sampler=plan,
        collate_fn=_collate,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
    )
    for index, loaded in enumerate(loader):
        if isinstance(loaded, WorkbenchError):
            raise loaded
        waveform, lengths, clips, captions = loaded
        yield Batch(waveform, lengths, clips, plan.first_row(index % plan.accumulate), captions)


def _collate(items: list[Crop | WorkbenchError]) -> tuple[Tensor, Tensor, Tensor, Tensor | None] | WorkbenchError:
    """Stack waveforms, lengths, clips and captions; a tuple, because memory of other classes would not be pinned."""
    crops: list[Crop] = []
    for item in items:
        if isinstance(item, WorkbenchError):
            return item
        crops.append(item)
    captions = [crop.caption for crop in crops if crop.caption is not None]
    return (
        torch.from_numpy(np.stack([crop.waveform for crop in crops])),  # [b, V, S]
        torch.tensor([crop.length for crop in crops]),  # [b]
        torch.tensor([crop.clip for crop in crops]),  # [b]
        torch.from_numpy(np.stack(captions)) if captions else None,  # [b, C]
    )


def _start_worker(worker: int) -> None:
    """Leave signals to the training process (it stops the workers), and one core to each worker."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)


def resolve_workers(workers: int | Literal["auto"]) -> int:
    """Turn ``data.workers`` into a number: "auto" leaves a core to training and takes at most 4.

    Raises:
        UsageError: a negative number.
    """
    if workers == "auto":
        try:
            cores = len(os.sched_getaffinity(0))
        except AttributeError:  # not on macOS and Windows
            cores = os.cpu_count() or 1
        return max(1, min(4, cores - 1))
    if workers < 0:
        raise UsageError(f"data.workers is {workers}; it cannot be negative", hint="Set it to 'auto', 0 or more.")
    return workers
