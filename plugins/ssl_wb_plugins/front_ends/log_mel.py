"""Log-mel spectrogram on the slaney mel scale, as MATPAC and M2D compute it."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_wb.api import LOG_OFFSET, Field, FrontEnd, MelOptions, PluginOptions, hookimpl, mel_filters, mel_power, retire


class LogMel(FrontEnd):
    """Natural log of a mel power spectrogram, slaney scale.

    Power spectrum under a periodic Hann window, slaney mel filters with slaney area norm, natural log of the power plus
    float32's epsilon. ``center = true`` is M2D's variant (frames centred, edges mirrored), ``false`` is MATPAC's (the
    first frame starts at sample 0, nothing is padded).
    """

    name = "log-mel"
    reference = "MATPAC, arXiv 2502.12031; M2D, arXiv 2210.14648"

    class Options(MelOptions):
        """Options; the defaults are MATPAC's."""

        center: bool = Field(
            False, description="Centre frames with mirrored edges (M2D) or start at sample 0 (MATPAC)."
        )

        # 0.1 had one set of options for all front ends, and its resolved recipes name them all.
        _retired = retire(preemphasis=(0.97, ""))

    window: Tensor
    filters: Tensor

    def __init__(self, options: PluginOptions, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__(options, mean, std)
        self.frame_samples = self.options.n_fft
        self.edge_samples = self.options.n_fft // 2 if self.options.center else 0
        # Both follow from the options, so they stay out of saved files.
        self.register_buffer("window", torch.hann_window(self.options.window), persistent=False)  # [window]
        self.register_buffer(
            "filters", mel_filters(self.options, scale="slaney", norm="slaney"), persistent=False
        )  # [n_fft // 2 + 1, F]

    def spectrum(self, waveform: Tensor) -> Tensor:
        """Compute ``[B, S]`` to log-mel values ``[B, F, T]``."""
        mel = mel_power(waveform, self.options, self.window, self.filters)  # [B, F, T]
        return (mel + LOG_OFFSET).log()


@hookimpl
def ssl_wb_front_ends() -> list[type[FrontEnd]]:
    """Offer this front end."""
    return [LogMel]
