"""Kaldi's mel filter bank in batch: what AudioMAE, EAT and AudioMosaic compute their spectrograms with.

Frames of whole windows only (``snip_edges``), each freed of its own mean, pre-emphasised, weighted with
a symmetric Hann window ('hanning') and zero-padded to the FFT's length; mel scale of HTK without area norm; natural log
of the mel power, floored at float32's epsilon. No dither and no energy. ``torchaudio.compliance.kaldi.fbank`` gives the
same values, one clip at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ssl_wb.recipe.schema import FrontEndSection

__all__ = ["kaldi_filters", "kaldi_log_mel", "kaldi_window"]


def kaldi_window(section: FrontEndSection) -> Tensor:
    """Return the symmetric Hann window, float32 ``[window]``."""
    return torch.hann_window(section.window, periodic=False)


def kaldi_filters(section: FrontEndSection) -> Tensor:
    """Return the triangular mel filters, float32 ``[n_fft // 2 + 1, F]``; the highest frequency belongs to none."""
    from torchaudio.compliance.kaldi import get_mel_banks  # the import takes seconds

    banks, _ = get_mel_banks(
        num_bins=section.n_mels,
        window_length_padded=section.n_fft,
        sample_freq=float(section.sample_rate),
        low_freq=section.f_min,
        high_freq=section.f_max,
        vtln_low=100.0,  # not looked at without warping
        vtln_high=-500.0,
        vtln_warp_factor=1.0,
    )  # [F, n_fft // 2]
    return functional.pad(banks, (0, 1)).T.contiguous()


def kaldi_log_mel(waveform: Tensor, window: Tensor, filters: Tensor, section: FrontEndSection, floor: float) -> Tensor:
    """Compute log-mel spectrograms as Kaldi does.

    Args:
        waveform: float32 ``[B, S]``, at least ``window`` samples.
        window: what :func:`kaldi_window` returns.
        filters: what :func:`kaldi_filters` returns.
        section: hop, FFT length and pre-emphasis.
        floor: least mel power that the log is taken of.

    Returns:
        float32 ``[B, F, T]`` with ``T = 1 + (S - window) // hop``.
    """
    frames = waveform.unfold(1, section.window, section.hop)  # [B, T, window], a view
    frames = frames - frames.mean(dim=2, keepdim=True)
    previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)  # [B, T, window], the first sample twice
    frames = (frames - section.preemphasis * previous) * window
    spectrum = torch.fft.rfft(frames, n=section.n_fft)  # [B, T, n_fft // 2 + 1]
    power = torch.view_as_real(spectrum).square().sum(dim=-1)  # [B, T, n_fft // 2 + 1]
    mel = filters.T @ power.transpose(1, 2)  # [B, F, T]
    return mel.clamp(min=floor).log()
