"""Mel spectrogram in decibels on the HTK scale, each band scaled by itself, as Dasheng computes it."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_wb.api import Field, FrontEnd, FrontEndOptions, PluginOptions, hookimpl, model_validator

#: Least mel power: -100 dB.
LEAST_POWER = 1e-10


class DbMel(FrontEnd):
    """Mel power spectrogram in decibels, HTK scale, without area norm, each band scaled and shifted by itself.

    Frames are centred and edges mirrored; periodic Hann window. ``10 log10(max(power, 1e-10))`` is raised to the clip's
    own maximum less ``range_db``. Dasheng takes the maximum of the whole batch, so that a quiet clip depends on its
    batch there and not here. Then ``value * band_scale + band_shift``, which is the batch norm over mel bands in front
    of Dasheng's patches in evaluation mode; without them the mean and deviation of the data are used, as elsewhere.
    """

    name = "db-mel"
    reference = "Dasheng, Dinkel et al. 2024, arXiv 2406.06992"

    class Options(FrontEndOptions):
        """Options; the defaults are Dasheng's."""

        n_mels: int = Field(64, ge=8, description="Mel bands.")
        window: int = Field(512, ge=16, description="Hann window in samples.")
        n_fft: int = Field(512, ge=16, description="FFT length in samples, at least the window.")
        f_min: float = Field(0.0, ge=0.0, description="Lowest frequency in Hz.")
        f_max: float = Field(8000.0, gt=0.0, description="Highest frequency in Hz, at most half the sample rate.")
        range_db: float = Field(120.0, gt=0.0, description="Values are raised to the clip's maximum less this.")
        band_scale: list[float] | None = Field(None, description="Factor of each band; together with band_shift.")
        band_shift: list[float] | None = Field(None, description="Summand of each band, after the factor.")

        @model_validator(mode="after")
        def _consistent(self) -> DbMel.Options:
            if self.f_max > self.sample_rate / 2 or self.f_min >= self.f_max:
                raise ValueError(
                    f"f_min {self.f_min:g} and f_max {self.f_max:g} Hz must rise within half the sample rate"
                )
            if self.n_fft < self.window:
                raise ValueError(f"n_fft {self.n_fft} is shorter than the window {self.window}")
            for name in ("band_scale", "band_shift"):
                values = getattr(self, name)
                if (self.band_scale is None) != (self.band_shift is None) or len(values or []) not in (0, self.n_mels):
                    raise ValueError(f"{name}: give both band_scale and band_shift, {self.n_mels} numbers each")
            return self

    window: Tensor
    filters: Tensor
    band_scale: Tensor
    band_shift: Tensor

    def __init__(self, options: PluginOptions, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__(options, mean, std)
        self.frame_samples = self.options.n_fft
        self.edge_samples = self.options.n_fft // 2
        # All follow from the options, so they stay out of saved files.
        self.register_buffer("window", torch.hann_window(self.options.window), persistent=False)  # [window]
        self.register_buffer("filters", self._filters(), persistent=False)  # [n_fft // 2 + 1, F]
        for name in ("band_scale", "band_shift"):
            values = getattr(self.options, name)
            column = torch.tensor(values or [], dtype=torch.float32)[:, None]  # [F, 1]
            self.register_buffer(name, column, persistent=False)

    def _filters(self) -> Tensor:
        """Return the mel filters, float32 ``[n_fft // 2 + 1, F]``."""
        from torchaudio.functional import melscale_fbanks  # the import takes seconds

        return melscale_fbanks(
            n_freqs=self.options.n_fft // 2 + 1,
            f_min=self.options.f_min,
            f_max=self.options.f_max,
            n_mels=self.options.n_mels,
            sample_rate=self.options.sample_rate,
            norm=None,
            mel_scale="htk",
        )

    def spectrum(self, waveform: Tensor) -> Tensor:
        """Compute ``[B, S]`` to decibels ``[B, F, T]``."""
        spectrum = torch.stft(
            waveform,
            n_fft=self.options.n_fft,
            hop_length=self.options.hop,
            win_length=self.options.window,
            window=self.window,
            center=False,  # edges are mirrored already, each clip's about its own end
            return_complex=True,
        )  # [B, n_fft // 2 + 1, T]
        power = torch.view_as_real(spectrum).square().sum(dim=-1)  # [B, n_fft // 2 + 1, T]
        return 10.0 * (self.filters.T @ power).clamp(min=LEAST_POWER).log10()  # [B, F, T]

    def normalise(self, log_mel: Tensor, frames: Tensor) -> Tensor:
        """Raise decibels ``[B, F, T]`` to each clip's floor, then scale and shift each band."""
        past = torch.arange(log_mel.shape[2], device=log_mel.device) >= frames[:, None]  # [B, T]
        loudest = log_mel.masked_fill(past[:, None, :], -torch.inf).amax(dim=(1, 2), keepdim=True)  # [B, 1, 1]
        raised = torch.maximum(log_mel, loudest - self.options.range_db)  # [B, F, T]
        if not len(self.band_scale):
            return super().normalise(raised, frames)
        return raised * self.band_scale + self.band_shift


@hookimpl
def ssl_wb_front_ends() -> list[type[FrontEnd]]:
    """Offer this front end."""
    return [DbMel]
