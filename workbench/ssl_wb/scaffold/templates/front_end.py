"""A front end: waveforms to spectrograms."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_wb.api import LOG_OFFSET, Field, FrontEnd, FrontEndOptions, PluginOptions, hookimpl


class NewPluginOptions(FrontEndOptions):
    """Options besides those of every front end; every one has bounds and a description."""

    n_fft: int = Field(400, ge=64, description="Samples of a frame.")


class NewPlugin(FrontEnd):
    """Log of a power spectrum in linear bands of equal width.

    Replace the bands by your idea.
    """

    name = "new-plugin"
    reference = ""
    Options = NewPluginOptions
    options: NewPluginOptions
    window: Tensor

    def __init__(self, options: PluginOptions, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__(options, mean, std)
        if self.options.n_fft // 2 + 1 < self.options.n_mels:
            raise ValueError(f"n_fft {self.options.n_fft} gives fewer bins than {self.options.n_mels} bands")
        self.frame_samples = self.options.n_fft
        # It follows from the options, so it stays out of saved files.
        self.register_buffer("window", torch.hann_window(self.options.n_fft), persistent=False)  # [n_fft]

    def spectrum(self, waveform: Tensor) -> Tensor:
        """Compute ``[B, S]`` to log power ``[B, F, T]``."""
        frames = waveform.unfold(1, self.frame_samples, self.options.hop)  # [B, T, n_fft]
        power = torch.fft.rfft(frames * self.window).abs().square()  # [B, T, n_fft // 2 + 1]
        bands = torch.nn.functional.adaptive_avg_pool1d(power, self.options.n_mels)  # [B, T, F]
        return (bands + LOG_OFFSET).log().transpose(1, 2)


@hookimpl
def ssl_wb_front_ends() -> list[type[FrontEnd]]:
    """Offer this front end."""
    return [NewPlugin]
