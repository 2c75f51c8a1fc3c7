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
from ssl_wb.errors import AudioError, ExitCode, itemise
from ssl_wb.layers.processes import gather_objects

__all__ = ["Crop", "CropDataset", "UnreadableClips", "UnreadableDataError"]

log = logging.getLogger("ssl_wb")

#: The run stops when this many clips are unreadable and they are also more than ``data.max_bad`` of the clips read. One
#: broken file in a million must not end a run of days; a disk that is gone must. In a small data set a few broken files
#: are a large share, and are passed over.
TOLERATED = 10
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


class UnreadableDataError(AudioError):
    """So many clips cannot be read that training does not go on."""

    exit_code = ExitCode.DIVERGED


class UnreadableClips:
    """Clips that could not be read, as the batches of a run tell them: the same for any number of workers.

    Args:
        source: of the clips, for messages.
        max_bad: share of the clips read that may be unreadable; 0 for none at all. Fewer than 10 clips are always
            tolerated otherwise.
        speaks: whether this process warns; one of several does.

    Attributes:
        clips: reasons by index, those before a resume too.
        fresh: found by this process and not told to the others yet.
    """

    def __init__(self, source: Path | None, *, max_bad: float = 0.01, speaks: bool = True) -> None:
        self.source = source
        self.max_bad = max_bad
        self.speaks = speaks
        self.clips: dict[int, str] = {}
        self.fresh: list[tuple[int, str]] = []

    def add(self, found: Iterable[tuple[int, str]], reads: int) -> None:
        """Report each clip once; stop when too many of those read are unreadable.

        Args:
            found: index and reason of each.
            reads: clips read so far, by all processes.

        Raises:
            UnreadableDataError: too many are unreadable.
        """
        new = {index: reason for index, reason in found if index not in self.clips}
        self.fresh += new.items()
        self._take(new, reads)

    def share(self, reads: int) -> None:
        """Tell the other processes of a run what this one found, and learn of theirs; all of them call it.

        Raises:
            UnreadableDataError: too many are unreadable; in all processes.
        """
        own, self.fresh = self.fresh, []
        everyone = [one for found in gather_objects(own) for one in found]
        known = {index: reason for index, reason in self.clips.items() if (index, reason) not in own}
        self.clips = known
        self._take({index: reason for index, reason in everyone if index not in known}, reads, told=dict(own))

    def _take(self, new: dict[int, str], reads: int, told: Iterable[int] = ()) -> None:
        self.clips |= new
        for index, reason in new.items():
            if self.speaks and index not in told:
                log.warning("unreadable clip, replaced by the next one: %s", reason)
        many = len(self.clips) >= TOLERATED or self.max_bad == 0.0
        if new and many and len(self.clips) > self.max_bad * reads:
            raise _too_many(self.source, [self.clips[index] for index in sorted(self.clips)])


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
            UnreadableDataError: no clip can be read.
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


def _too_many(source: Path | None, reasons: list[str]) -> UnreadableDataError:
    return UnreadableDataError(
        itemise(f"{source}: {len(reasons)} clip{'' if len(reasons) == 1 else 's'} cannot be read", reasons, SHOWN),
        hint="Is the disk still there? Otherwise repair these files or take them out of the data. data.max_bad is the "
        "share that is tolerated; a run lists all of them in unreadable.json.",
    )
