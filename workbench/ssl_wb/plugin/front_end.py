"""The front end contract: waveforms to normalised spectrograms, in batch, on the training device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.plugin.base import Kind, Plugin, PluginOptions

__all__ = ["LOG_OFFSET", "FrontEnd", "FrontEndOptions", "MelOptions", "mel_filters", "mel_power"]

#: The epsilon of float32, which published front ends add to the mel power before the log, or take as its floor.
LOG_OFFSET = 1.1920929e-7


class FrontEndOptions(PluginOptions):
    """What the workbench asks of every front end; one adds its own."""

    sample_rate: int = Field(16000, ge=4000, description="Samples per second; audio is resampled to it.")
    hop: int = Field(160, ge=8, description="Hop between frames in samples.")
    n_mels: int = Field(80, ge=8, description="Mel bands.")
    subtract_mean: bool = Field(False, description="Remove the mean of each clip's waveform first.")
    mean: float | None = Field(None, description="Mean of the log-mel values; measured from the data unless given.")
    std: float | None = Field(
        None, gt=0.0, description="Standard deviation of the log-mel values; measured unless given."
    )
    std_factor: float = Field(
        1.0, gt=0.0, description="Normalised is (x - mean) / (std_factor * std); 2 in the AudioMAE family."
    )
    pad: Literal["mean", "zero"] = Field(
        "mean",
        description="Frames past a clip's end: 'mean' of the data, or 'zero', log-mel 0 before normalisation "
        "(AudioMosaic's and M2D's training).",
    )

    clip_statistics: bool = Field(
        False,
        description="Normalise each clip by the mean and deviation of its own log-mel values instead of the data's "
        "(MSM-MAE's first release at inference).",
    )
    min_samples: int = Field(
        0,
        ge=0,
        description="Shorter clips are extended with silence first, to so many samples (AudioMosaic's release).",
    )

    #: Options that act after the log-mel values, and so do not change their statistics.
    normalisation: ClassVar[frozenset[str]] = frozenset({"mean", "std", "std_factor", "pad", "clip_statistics"})

    @model_validator(mode="after")
    def _both_or_neither(self) -> FrontEndOptions:
        if (self.mean is None) != (self.std is None):
            raise ValueError("give both mean and std, or neither to measure them")
        return self


class MelOptions(FrontEndOptions):
    """Options of a front end that is a short-time Fourier transform under mel filters; the defaults are MATPAC's."""

    window: int = Field(400, ge=16, description="Hann window in samples.")
    n_fft: int = Field(400, ge=16, description="FFT length in samples, at least the window.")
    f_min: float = Field(50.0, ge=0.0, description="Lowest frequency in Hz.")
    f_max: float = Field(8000.0, gt=0.0, description="Highest frequency in Hz, at most half the sample rate.")

    @model_validator(mode="after")
    def _consistent(self) -> MelOptions:
        if self.f_max > self.sample_rate / 2:
            raise ValueError(f"f_max {self.f_max:g} Hz is above half the sample rate ({self.sample_rate / 2:g} Hz)")
        if self.f_min >= self.f_max:
            raise ValueError(f"f_min {self.f_min:g} Hz is not below f_max {self.f_max:g} Hz")
        if self.n_fft < self.window:
            raise ValueError(f"n_fft {self.n_fft} is shorter than the window {self.window}")
        return self


def mel_filters(options: MelOptions, *, scale: Literal["htk", "slaney"], norm: Literal["slaney"] | None) -> Tensor:
    """Return mel filters, float32 ``[n_fft // 2 + 1, F]``.

    Args:
        options: of the front end.
        scale: the mel scale.
        norm: ``slaney`` divides each filter by its width.
    """
    from torchaudio.functional import melscale_fbanks  # the import takes seconds

    filters: Tensor = melscale_fbanks(
        n_freqs=options.n_fft // 2 + 1,
        f_min=options.f_min,
        f_max=options.f_max,
        n_mels=options.n_mels,
        sample_rate=options.sample_rate,
        norm=norm,
        mel_scale=scale,
    )
    return filters


def mel_power(waveform: Tensor, options: MelOptions, window: Tensor, filters: Tensor) -> Tensor:
    """Return the power in mel bands, ``[B, F, T]``, of the short-time Fourier transform of waveforms ``[B, S]``.

    Args:
        waveform: with its edges as they are to be; nothing is mirrored here.
        options: of the front end.
        window: ``[window]``.
        filters: ``[n_fft // 2 + 1, F]``.
    """
    spectrum = torch.stft(
        waveform,
        n_fft=options.n_fft,
        hop_length=options.hop,
        win_length=options.window,
        window=window,
        center=False,  # edges are mirrored already, each clip's about its own end
        return_complex=True,
    )  # [B, n_fft // 2 + 1, T]
    power = torch.view_as_real(spectrum).square().sum(dim=-1)  # [B, n_fft // 2 + 1, T]
    return filters.T @ power


class FrontEnd(Plugin, nn.Module, ABC):
    """Normalised log-mel spectrogram of waveforms, always computed in float32.

    A clip's frames do not depend on what it shares a batch with: the mean that ``subtract_mean`` removes is that of its
    own samples, edges are mirrored about its own end, and frames past that all hold one value, :attr:`pad_value`. A
    clip shorter than a frame is extended to one with silence.

    Args:
        options: the plugin's options, :class:`FrontEndOptions` among them.
        mean: mean of the data's log-mel values.
        std: their standard deviation.

    Attributes:
        frame_samples: samples that one frame spans.
        edge_samples: samples mirrored on each side of a clip before the first frame is taken.
        filters: where there are some, the weights of FFT bins in bands, ``[n_fft // 2 + 1, F]``: pictures take the
            bands' frequencies from them.
    """

    kind: ClassVar[Kind] = "front-end"
    Options: ClassVar[type[PluginOptions]] = FrontEndOptions

    frame_samples: int
    edge_samples: int = 0
    mean: Tensor
    std: Tensor

    def __init__(self, options: PluginOptions, mean: float = 0.0, std: float = 1.0) -> None:
        nn.Module.__init__(self)
        self.options = options
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    @abstractmethod
    def spectrum(self, waveform: Tensor) -> Tensor:
        """Compute log-mel values before normalisation.

        Args:
            waveform: float32 ``[B, S]``, at least ``frame_samples`` samples, edges mirrored already. Autocast is off.

        Returns:
            float32 ``[B, F, T]`` with ``T = 1 + (S - frame_samples) // hop``.
        """

    @property
    def sample_rate(self) -> int:
        """Samples per second that waveforms must have."""
        return self.options.sample_rate  # type: ignore[no-any-return]

    @property
    def hop_seconds(self) -> float:
        """Seconds between frames."""
        return self.options.hop / self.options.sample_rate  # type: ignore[no-any-return]

    def frames_of(self, samples: int) -> int:
        """Return the frames of a clip of ``samples`` samples."""
        padded = max(samples, self._least_samples) + 2 * self.edge_samples
        return 1 + (padded - self.frame_samples) // int(self.options.hop)

    def samples_of(self, frames: int) -> int:
        """Return the fewest samples that give ``frames`` frames.

        Never fewer than one frame spans, to which shorter clips are extended. With mirrored edges even such a clip has
        several frames, so a smaller count of frames cannot be had and the answer is ``frame_samples``.
        """
        padded = self.frame_samples + (frames - 1) * int(self.options.hop)
        return max(self._least_samples, padded - 2 * self.edge_samples)

    @property
    def _least_samples(self) -> int:
        """Samples to which shorter clips are extended with silence."""
        return max(self.frame_samples, int(self.options.min_samples))

    @property
    def pad_value(self) -> Tensor:
        """Normalised value of frames past a clip's end, a float32 scalar.

        0 is the data's mean (``pad="mean"``), as in MATPAC's and M2D's inference; ``pad="zero"`` is what log-mel 0, a
        loud value, becomes, as in AudioMosaic's and M2D's training.
        """
        zero = torch.zeros_like(self.mean)
        return self._normalised(zero) if self.options.pad == "zero" else zero

    def _normalised(self, log_mel: Tensor) -> Tensor:
        scale = float(self.options.std_factor) * self.std
        return (log_mel - self.mean) / scale

    def normalise(self, log_mel: Tensor, frames: Tensor) -> Tensor:
        """Normalise log-mel values.

        Args:
            log_mel: float32 ``[B, F, T]``.
            frames: int64 ``[B]``, the frames of each clip; what lies past them has no meaning.

        Returns:
            float32 ``[B, F, T]``.
        """
        if not self.options.clip_statistics:
            return self._normalised(log_mel)
        past = torch.arange(log_mel.shape[2], device=log_mel.device) >= frames[:, None]  # [B, T]
        count = (frames * log_mel.shape[1])[:, None, None].clamp(min=2)  # [B, 1, 1], values of each clip
        own = log_mel.masked_fill(past[:, None, :], 0.0).double()  # [B, F, T]; float64, as the sums are long
        mean = own.sum(dim=(1, 2), keepdim=True) / count
        squares = (own - mean).masked_fill(past[:, None, :], 0.0).square()
        std = (squares.sum(dim=(1, 2), keepdim=True) / (count - 1)).sqrt()  # unbiased, as torch.std in the release
        scale = (float(self.options.std_factor) * std).clamp(min=LOG_OFFSET)  # digital silence has no deviation
        return ((log_mel - mean) / scale).float()

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute normalised log-mel spectrograms.

        Args:
            waveform: float ``[B, S]``, samples in -1..1.
            lengths: int64 ``[B]``, samples of each clip that count; None when all ``S`` do.

        Returns:
            float32 ``[B, F, T]``, ``pad_value`` past a clip's end, and int64 ``[B]``, the frames of each clip.
        """
        log_mel, frames = self.log_mel(waveform, lengths)
        normalised = self.normalise(log_mel, frames)  # [B, F, T]
        if lengths is None:
            return normalised, frames
        past = torch.arange(normalised.shape[2], device=normalised.device) >= frames[:, None]  # [B, T]
        return normalised.masked_fill(past[:, None, :], self.pad_value), frames

    def log_mel(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute log-mel spectrograms before normalisation.

        Args:
            waveform: float ``[B, S]``.
            lengths: int64 ``[B]``, or None.

        Returns:
            float32 ``[B, F, T]`` (frames past a clip's end have no meaning) and int64 ``[B]``, the frames of each clip.
        """
        # Logarithms of small powers need float32, whatever precision the training step runs in.
        with torch.autocast(device_type=waveform.device.type, enabled=False):
            waveform, lengths = self._prepared(waveform.float(), lengths)  # [B, S], [B]
            frames = 1 + (lengths + 2 * self.edge_samples - self.frame_samples) // self.options.hop  # [B]
            return self.spectrum(self._mirrored(waveform, lengths)), frames

    def _prepared(self, waveform: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Silence what lies past each clip's end, remove the clips' means if asked to, extend to one frame."""
        batch, samples = waveform.shape
        if lengths is None:
            lengths = torch.full((batch,), samples, dtype=torch.int64, device=waveform.device)
        past = torch.arange(samples, device=waveform.device) >= lengths[:, None]  # [B, S]
        waveform = waveform.masked_fill(past, 0.0)
        least = int(self.options.min_samples)
        if least:  # before the mean is removed, which then counts the silence too
            waveform = F.pad(waveform, (0, max(0, least - samples)))
            lengths, samples = lengths.clamp(min=least), waveform.shape[1]
            past = torch.arange(samples, device=waveform.device) >= lengths[:, None]  # [B, S]
        if self.options.subtract_mean:
            # Summed in float64, where the padding that a batch adds does not change the rounding.
            mean = waveform.sum(dim=1, dtype=torch.float64) / lengths.clamp(min=1)  # [B]
            waveform = (waveform - mean.float()[:, None]).masked_fill(past, 0.0)
        if samples < self.frame_samples:
            waveform = F.pad(waveform, (0, self.frame_samples - samples))
        return waveform, lengths.clamp(min=self.frame_samples)

    def _mirrored(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Mirror each clip's edges about its own first and last sample: ``[B, S]`` to ``[B, S + 2 edge]``."""
        if not self.edge_samples:
            return waveform
        edge = self.edge_samples
        position = torch.arange(-edge, waveform.shape[1] + edge, device=waveform.device)  # [S + 2 edge]
        last = lengths[:, None] - 1  # [B, 1]
        position = position.abs().expand(len(lengths), -1)  # [B, S + 2 edge]
        position = torch.where(position > last, 2 * last - position, position)
        # Only frames past the end reach further than one reflection; any valid index serves them.
        return waveform.gather(1, position.clamp(min=0))
