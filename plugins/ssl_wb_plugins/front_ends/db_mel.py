"""Mel spectrogram in decibels on the HTK scale, each band scaled by itself, as Dasheng computes it."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_wb.api import Field, FrontEnd, MelOptions, PluginOptions, hookimpl, mel_filters, mel_power, model_validator

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

    class Options(MelOptions):
        """Options; the defaults are Dasheng's."""

        n_mels: int = Field(64, ge=8, description="Mel bands.")
        window: int = Field(512, ge=16, description="Hann window in samples.")
        n_fft: int = Field(512, ge=16, description="FFT length in samples, at least the window.")
        f_min: float = Field(0.0, ge=0.0, description="Lowest frequency in Hz.")
        range_db: float = Field(120.0, gt=0.0, description="Values are raised to the clip's maximum less this.")
        band_scale: list[float] | None = Field(None, description="Factor of each band; together with band_shift.")
        band_shift: list[float] | None = Field(None, description="Summand of each band, after the factor.")

        @model_validator(mode="after")
        def _both_for_every_band(self) -> DbMel.Options:
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
        self.register_buffer(
            "filters", mel_filters(self.options, scale="htk", norm=None), persistent=False
        )  # [n_fft // 2 + 1, F]
        for name in ("band_scale", "band_shift"):
            values = getattr(self.options, name)
            column = torch.tensor(values or [], dtype=torch.float32)[:, None]  # [F, 1]
            self.register_buffer(name, column, persistent=False)

    def spectrum(self, waveform: Tensor) -> Tensor:
        """Compute ``[B, S]`` to decibels ``[B, F, T]``."""
        mel = mel_power(waveform, self.options, self.window, self.filters)  # [B, F, T]
        return 10.0 * mel.clamp(min=LEAST_POWER).log10()

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
