"""Random crops of clips, each a pure function of the seed, the epoch and the clip."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ssl_wb.audio.clip import ClipSet
from ssl_wb.audio.decode import info, read_samples
from ssl_wb.data.augmenter import Augmenter
from ssl_wb.data.captions import CaptionTable
from ssl_wb.data.order import caption_random, random_below, random_for, view_random
from ssl_wb.errors import AudioError, itemise

__all__ = ["Crop", "CropDataset", "UnreadableClips"]

log = logging.getLogger("ssl_wb")

#: The run stops when this many clips are unreadable and they are also this share of the clips read. One broken file in
#: a million must not end a run of days; a disk that is gone must.
TOLERATED = 10
TOLERATED_SHARE = 0.01
#: An item for which so many clips one after the other cannot be read ends the run: the disk is gone.
MOST_IN_A_ROW = 1000
#: Unreadable clips listed in the message; the rest is only counted.
SHOWN = 5


class Crop(NamedTuple):
    """One item of the dataset.

    Attributes:
        waveform: float32 ``[V, S]``, one row per view.
        length: samples before the zeros of a short clip.
        clip: index of the clip that was read; not the requested one if that is unreadable.
        caption: float32 ``[C]``, embedding of one of the clip's captions, or None.
        unreadable: index and reason of the clips that could not be read in its place, that which was requested first.
    """

    waveform: NDArray[np.float32]
    length: int
    clip: int
    caption: NDArray[np.float32] | None = None
    unreadable: tuple[tuple[int, str], ...] = ()


class UnreadableClips:
    """Clips that could not be read, as the batches of a run tell them: the same for any number of workers.

    Args:
        source: of the clips, for messages.
        known: reasons by index, of the run before it was resumed; new ones are added to it.
    """

    def __init__(self, source: Path, known: dict[int, str] | None = None) -> None:
        self.source = source
        self.clips = {} if known is None else known

    def add(self, found: Iterable[tuple[int, str]], reads: int) -> None:
        """Report each clip once; stop when at least 10 and more than 1 % of the clips read are unreadable.

        Args:
            found: index and reason of each.
            reads: clips read so far.

        Raises:
            AudioError: too many are unreadable.
        """
        before = len(self.clips)
        for index, reason in found:
            if index not in self.clips:
                self.clips[index] = reason
                log.warning("unreadable clip, replaced by the next one: %s", reason)
        if len(self.clips) > before and len(self.clips) >= TOLERATED and len(self.clips) > TOLERATED_SHARE * reads:
            raise self.too_many()

    def too_many(self) -> AudioError:
        """Return the error that ends the run."""
        return _too_many(self.source, [self.clips[index] for index in sorted(self.clips)])


class CropDataset(Dataset[Crop]):
    """Random crops; an item depends on (seed, epoch, clip index) and nothing else.

    So any worker of any process can make any item, and a resumed run sees what it would have seen. All views of an
    item show the same crop; each is augmented by (seed, epoch, clip index, view).

    A clip whose crop cannot be read is replaced by the next clip whose crop of this epoch can. That is decided anew for
    each item and not by what was read before: a file that is damaged near its end would otherwise be left out from the
    moment on at which this worker, in this life of the run, first met the damage. :class:`UnreadableClips` counts them.

    Args:
        clips: where crops come from.
        sample_rate: samples per second of the crops.
        samples: length S of a crop.
        seed: seed of the crops' positions, augmentations and captions.
        short: what to do with a clip shorter than the crop: append zeros and keep its own length ("zeros"), or repeat
            it until the crop is full ("repeat").
        augment: changes each view; None for one view, the crop as it is.
        views: views of each crop, if they are augmented.
        captions: gives each crop one caption of its clip; None for no captions.
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
        self._available: dict[int, int] = {}  # samples of each clip seen so far: headers are read once

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int]) -> Crop:
        """Read, augment and caption one crop.

        Args:
            key: epoch and clip index.

        Raises:
            AudioError: no clip can be read.
            DataError: an augmentation failed.
        """
        epoch, requested = key
        unreadable: list[tuple[int, str]] = []
        for step in range(len(self.clips)):
            index = (requested + step) % len(self.clips)
            try:
                crop = self.crop(epoch, index)  # [<= S]
            except AudioError as error:
                unreadable.append((index, error.message))
                if len(unreadable) >= MOST_IN_A_ROW:
                    break
                continue
            length = len(crop)
            if length < self.samples and self.short == "repeat":
                crop, length = np.resize(crop, self.samples), self.samples  # [S]; np.resize repeats
            elif length < self.samples:
                crop = np.pad(crop, (0, self.samples - length))  # [S]
            if self.augment is None:
                waveform = crop[None]  # [1, S]
            else:
                generators = [view_random(self.seed, epoch, index, view) for view in range(self.views)]
                waveform = np.stack([self.augment(crop, length, one) for one in generators])  # [V, S]
            caption = None
            if self.captions is not None:
                caption = self.captions.row(index, caption_random(self.seed, epoch, index))  # [C]
            return Crop(waveform, length, index, caption, tuple(unreadable))
        raise _too_many(self.clips.source, [reason for _, reason in unreadable])

    def crop(self, epoch: int, index: int) -> NDArray[np.float32]:
        """Read a random stretch of one clip, float32 ``[S]``, shorter if the clip is."""
        clip = self.clips[index]
        first = round(clip.start * self.sample_rate)
        available = self._samples_of(index)
        if available > self.samples:
            first += random_below(random_for(self.seed, epoch, index), available - self.samples + 1)
        return read_samples(clip.path, self.sample_rate, first, min(self.samples, available))

    def _samples_of(self, index: int) -> int:
        """Return the length of a clip in samples at this dataset's rate, at least 1."""
        if index not in self._available:
            clip = self.clips[index]
            rest = info(clip.path).samples_at(self.sample_rate) - round(clip.start * self.sample_rate)
            if clip.duration is not None:
                rest = min(rest, round(clip.duration * self.sample_rate))
            self._available[index] = max(1, rest)  # a clip that starts past the file's end is told by read_samples
        return self._available[index]


def _too_many(source: Path, reasons: list[str]) -> AudioError:
    return AudioError(
        itemise(f"{source}: {len(reasons)} clips cannot be read", reasons, SHOWN),
        hint="Is the disk still there? Otherwise repair these files or take them out of the data.",
    )
