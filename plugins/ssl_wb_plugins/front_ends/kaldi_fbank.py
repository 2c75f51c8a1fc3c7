"""Kaldi's mel filter bank, as AudioMAE, EAT and AudioMosaic compute it."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_wb.api import LOG_OFFSET, Field, FrontEnd, MelOptions, PluginOptions, hookimpl, model_validator, retire


class KaldiFbank(FrontEnd):
    """Kaldi's log filter bank.

    AudioMAE, EAT and AudioMosaic use it with n_fft 512, n_mels 128, f_min 20, subtract_mean and std_factor 2.

    Frames of whole windows only (``snip_edges``). Each frame's own mean is removed; it is pre-emphasised, weighted with
    a symmetric Hann window and zero-padded to the FFT's length. Mel scale of HTK without area norm; natural
    log of the mel power, with float32's epsilon as its floor. No dither and no energy.
    ``torchaudio.compliance.kaldi.fbank`` gives the same values, one clip at a time.
    """

    name = "kaldi-fbank"
    reference = "AudioMAE, arXiv 2207.06405; AudioMosaic, arXiv 2605.14231"

    class Options(MelOptions):
        """Options; the defaults are MATPAC's sizes, as for ``log-mel``."""

        preemphasis: float = Field(0.97, ge=0.0, le=1.0, description="Pre-emphasis within a frame.")
        window_shape: Literal["hanning", "povey"] = Field(
            "hanning", description="Hann, or Kaldi's own window, Hann to the power 0.85 (BEATs)."
        )
        gain: float = Field(
            1.0, gt=0.0, description="Factor on the waveform; 32768 gives Kaldi's 16-bit scale (BEATs)."
        )

        # 0.1 had one set of options for all front ends, and its resolved recipes name them all.
        _retired = retire(
            center=(False, "center = true is for log-mel; kaldi-fbank takes whole windows only, so leave it false")
        )

        @model_validator(mode="after")
        def _even(self) -> KaldiFbank.Options:
            if self.n_fft % 2:
                raise ValueError(f"n_fft {self.n_fft} is odd; kaldi-fbank needs an even one")
            return self

    window: Tensor
    filters: Tensor

    def __init__(self, options: PluginOptions, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__(options, mean, std)
        self.frame_samples = self.options.window  # zeros up to n_fft are added to each frame
        # Both follow from the options, so they stay out of saved files.
        window = torch.hann_window(self.options.window, periodic=False)  # [window]
        if self.options.window_shape == "povey":
            window = window.pow(0.85)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", _htk_filters(self.options), persistent=False)  # [n_fft // 2 + 1, F]

    def spectrum(self, waveform: Tensor) -> Tensor:
        """Compute ``[B, S]`` to log-mel values ``[B, F, T]``."""
        if self.options.gain != 1.0:
            waveform = waveform * self.options.gain
        frames = waveform.unfold(1, self.options.window, self.options.hop)  # [B, T, window], a view
        frames = frames - frames.mean(dim=2, keepdim=True)
        previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)  # [B, T, window], the first sample twice
        frames = (frames - self.options.preemphasis * previous) * self.window
        spectrum = torch.fft.rfft(frames, n=self.options.n_fft)  # [B, T, n_fft // 2 + 1]
        power = torch.view_as_real(spectrum).square().sum(dim=-1)  # [B, T, n_fft // 2 + 1]
        mel = self.filters.T @ power.transpose(1, 2)  # [B, F, T]
        return mel.clamp(min=LOG_OFFSET).log()


def _htk_filters(options: Any) -> Tensor:
    """Return the triangular mel filters, float32 ``[n_fft // 2 + 1, F]``; the highest frequency belongs to none."""
    from torchaudio.compliance.kaldi import get_mel_banks  # the import takes seconds

    banks, _ = get_mel_banks(
        num_bins=options.n_mels,
        window_length_padded=options.n_fft,
        sample_freq=float(options.sample_rate),
        low_freq=options.f_min,
        high_freq=options.f_max,
        vtln_low=100.0,  # not used without vocal tract length warping
        vtln_high=-500.0,
        vtln_warp_factor=1.0,
    )  # [F, n_fft // 2]
    return F.pad(banks, (0, 1)).T.contiguous()


@hookimpl
def ssl_wb_front_ends() -> list[type[FrontEnd]]:
    """Offer this front end."""
    return [KaldiFbank]
