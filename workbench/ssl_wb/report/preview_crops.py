"""Crops of audio files for a picture of masks, read and normalised as in training."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_wb.audio.clip import Clip, ClipSet
from ssl_wb.data.augmenter import Augmenter
from ssl_wb.data.dataset import CropDataset
from ssl_wb.errors import AudioError
from ssl_wb.plugin.backbone import Backbone
from ssl_wb.plugin.front_end import FrontEnd
from ssl_wb.pretext.crop import crop_shape
from ssl_wb.recipe.load import LoadedRecipe

__all__ = ["PreviewCrops", "bin_centres"]

#: Least standard deviation to normalise by: log-mel values of crops that vary less are silence, or constant.
SMALLEST_STD = 1e-3


class PreviewCrops:
    """One crop of each file, and its spectrograms.

    Args:
        loaded: the recipe.
        backbone: its patches decide the length of a crop.
        audio: files.
        seed: of crops and augmentation.
        front_end: a run's, with the statistics of its data; None to use the recipe's statistics, or the crops' own.

    Raises:
        AudioError: a file cannot be read, or its crop is silent.

    Attributes:
        front_end: with the statistics it normalises by.
        normalised_by: whose statistics these are, in words.
        frames: spectrogram frames of a crop.
    """

    def __init__(
        self,
        loaded: LoadedRecipe,
        backbone: Backbone,
        audio: Sequence[str | Path],
        seed: int,
        front_end: FrontEnd | None,
    ) -> None:
        crop, data = crop_shape(loaded, backbone), loaded.recipe.data
        self.frames = crop.frames
        unfitted = loaded.front_end.build()
        rate = unfitted.sample_rate
        # One dataset per file: a dataset of several would replace an unreadable clip by the next.
        sets = [ClipSet((Clip(Path(path)),), Path(path), "") for path in audio]
        self._plain = [CropDataset(clips, rate, crop.samples, seed, data.short) for clips in sets]
        self._augmented = self._plain
        if loaded.augmentations:
            self._augmented = [copy(dataset) for dataset in self._plain]
            for dataset in self._augmented:
                dataset.augment = Augmenter(loaded.augmentations, rate)
        for dataset in self._plain:
            if np.ptp(dataset[(0, 0)].waveform) == 0.0:
                seconds = dataset.samples / dataset.sample_rate
                raise AudioError(
                    f"{dataset.clips.source}: the {seconds:.2f} s drawn from it are silent, there is nothing to see",
                    hint="name another file; another --seed draws another stretch of a longer one",
                )
        options = loaded.front_end.options
        if front_end is not None:
            self.front_end, self.normalised_by = front_end, "the run's data"
        elif options.mean is not None and options.std is not None:
            self.front_end, self.normalised_by = loaded.front_end.build(options.mean, options.std), "the recipe"
        else:
            self.front_end = loaded.front_end.build(*self._statistics(unfitted))
            self.normalised_by = "these clips" if len(audio) > 1 else "this clip"

    @torch.no_grad()
    def _statistics(self, front_end: FrontEnd) -> tuple[float, float]:
        """Return mean and standard deviation of the crops' log-mel values, as training measures those of its data."""
        values = []
        for dataset in self._plain:
            crop = dataset[(0, 0)]
            log_mel, frames = front_end.log_mel(torch.from_numpy(crop.waveform), torch.tensor([crop.length]))
            values.append(log_mel[0, :, : int(frames)].flatten())  # [F * frames], without the padding
        every = torch.cat(values).double()
        return float(every.mean()), max(float(every.std(correction=0)), SMALLEST_STD)

    @torch.no_grad()
    def spectrograms(self, views: int) -> Tensor:
        """Return the crops as given to the model in training: ``[B, V, F, T]`` if views differ, else ``[B, F, T]``."""
        spectrograms = []
        for dataset in self._augmented:
            dataset.views = views
            crop = dataset[(0, 0)]
            waveform = torch.from_numpy(crop.waveform)  # [V, S]
            lengths = torch.full((len(waveform),), crop.length)  # [V]
            spectrograms.append(self.front_end(waveform, lengths)[0])  # [V, F, T]
        stacked = torch.stack(spectrograms)  # [B, V, F, T]
        return stacked if self._augmented is not self._plain and views > 1 else stacked[:, 0]


def bin_centres(front_end: FrontEnd) -> NDArray[np.float64]:
    """Return the centre of each mel bin in Hz ``[F]``.

    Bins narrower than the FFT's resolution have no weights and are interpolated between their neighbours. Without
    ``filters``, the bands of a front end are taken as spread evenly up to half the sample rate.
    """
    filters = getattr(front_end, "filters", None)
    if not isinstance(filters, torch.Tensor):
        return np.linspace(0.0, front_end.sample_rate / 2, int(front_end.options.n_mels))
    filters = filters.double()  # [n_fft // 2 + 1, F]
    hz = torch.linspace(0.0, front_end.sample_rate / 2, len(filters), dtype=torch.float64)
    weight = filters.sum(dim=0)  # [F]
    centres = (filters * hz[:, None]).sum(dim=0) / weight.clamp_min(1e-12)
    bins, known = np.arange(len(weight)), (weight > 0).numpy()
    return np.interp(bins, bins[known], centres.numpy()[known])
