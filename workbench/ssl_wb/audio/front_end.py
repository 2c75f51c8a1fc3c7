"""The front end: waveforms to normalised log-mel spectrograms, in batch, on the training device.

``log-mel``: power spectrogram under a periodic Hann window, slaney mel scale with slaney area norm, natural
log of the mel power plus float32's epsilon. ``center=True`` is M2D's variant (frames centred, edges reflected),
``center=False`` MATPAC's (the first frame starts at sample 0, nothing is padded). ``kaldi-fbank``: the filter bank of
:mod:`ssl_wb.audio.kaldi`, as AudioMAE and AudioMosaic use it. Either is then normalised with the data's own
statistics: ``(x - mean) / (std_factor * std)``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_wb.audio.kaldi import kaldi_filters, kaldi_log_mel, kaldi_window
from ssl_wb.recipe.schema import FrontEndSection

__all__ = ["LOG_OFFSET", "FrontEnd"]

#: Added to the mel power before the log, or its floor under kaldi-fbank: the epsilon of float32.
LOG_OFFSET = 1.1920929e-7


class FrontEnd(nn.Module):
    """Normalised log-mel spectrogram of waveforms, always computed in float32.

    A clip's frames do not depend on what it shares a batch with: the mean that ``subtract_mean`` removes is of its own
    samples, edges are reflected about its own end, and frames past that all hold one value, :attr:`pad_value`. A clip
    shorter than a frame is extended to one with silence. A frame spans ``n_fft`` samples under log-mel and ``window``
    samples under kaldi-fbank, which adds zeros up to ``n_fft`` itself.

    Args:
        section: the recipe's front end.
        mean: mean of the data's log-mel values.
        std: their standard deviation.
    """

    mean: Tensor
    std: Tensor
    window: Tensor
    filters: Tensor

    def __init__(self, section: FrontEndSection, mean: float, std: float) -> None:
        super().__init__()
        self.section = section
        kaldi = section.name == "kaldi-fbank"
        self._frame = section.window if kaldi else section.n_fft  # samples
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        # Both follow from the settings, so they stay out of saved files.
        window = kaldi_window(section) if kaldi else torch.hann_window(section.window)  # [window]
        filters = kaldi_filters(section) if kaldi else _slaney_filters(section)  # [n_fft // 2 + 1, F]
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    @property
    def sample_rate(self) -> int:
        """Samples per second that waveforms must have."""
        return self.section.sample_rate

    @property
    def hop_seconds(self) -> float:
        """Seconds between frames."""
        return self.section.hop / self.section.sample_rate

    @property
    def _reflected(self) -> int:
        """Samples added on each side of a clip."""
        return self.section.n_fft // 2 if self.section.center else 0

    def frames_of(self, samples: int) -> int:
        """Frames of a clip of ``samples`` samples."""
        padded = max(samples, self._frame) + 2 * self._reflected
        return 1 + (padded - self._frame) // self.section.hop

    def samples_of(self, frames: int) -> int:
        """Fewest samples that give ``frames`` frames.

        Never fewer than one frame spans, to which shorter clips are extended; so with ``center=True``, where even
        those have several frames, a smaller count of frames cannot be had and the answer is ``n_fft``.
        """
        padded = self._frame + (frames - 1) * self.section.hop
        return max(self._frame, padded - 2 * self._reflected)

    @property
    def pad_value(self) -> Tensor:
        """Normalised value of frames past a clip's end, a float32 scalar.

        0 is the data's mean (``pad="mean"``), as MATPAC and M2D infer; ``pad="zero"`` is what log-mel 0, a loud value,
        becomes, as AudioMosaic and M2D train.
        """
        zero = torch.zeros_like(self.mean)
        return self._normalised(zero) if self.section.pad == "zero" else zero

    def _normalised(self, log_mel: Tensor) -> Tensor:
        return (log_mel - self.mean) / (self.section.std_factor * self.std)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute normalised log-mel spectrograms.

        Args:
            waveform: float ``[B, S]``, samples in -1..1.
            lengths: int64 ``[B]``, samples of each clip that count; None when all ``S`` do.

        Returns:
            float32 ``[B, F, T]``, ``pad_value`` past a clip's end, and int64 ``[B]``, the frames of each clip.
        """
        log_mel, frames = self.log_mel(waveform, lengths)
        normalised = self._normalised(log_mel)  # [B, F, T]
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
            float32 ``[B, F, T]`` (frames past a clip's end hold no meaning) and int64 ``[B]``, the frames of
            each clip.
        """
        with torch.autocast(device_type=waveform.device.type, enabled=False):
            waveform, lengths = self._prepared(waveform.float(), lengths)  # [B, S], [B]
            frames = 1 + (lengths + 2 * self._reflected - self._frame) // self.section.hop  # [B]
            if self.section.name == "kaldi-fbank":
                return kaldi_log_mel(waveform, self.window, self.filters, self.section, LOG_OFFSET), frames
            spectrum = torch.stft(
                self._reflect(waveform, lengths),
                n_fft=self.section.n_fft,
                hop_length=self.section.hop,
                win_length=self.section.window,
                window=self.window,
                center=False,
                return_complex=True,
            )  # [B, n_fft // 2 + 1, T]
            power = torch.view_as_real(spectrum).square().sum(dim=-1)  # [B, n_fft // 2 + 1, T]
            mel = self.filters.T @ power  # [B, F, T]
            return (mel + LOG_OFFSET).log(), frames

    def _prepared(self, waveform: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Silence what lies past each clip's end, remove the clips' means if asked to, extend to one frame."""
        batch, samples = waveform.shape
        if lengths is None:
            lengths = torch.full((batch,), samples, dtype=torch.int64, device=waveform.device)
        past = torch.arange(samples, device=waveform.device) >= lengths[:, None]  # [B, S]
        waveform = waveform.masked_fill(past, 0.0)
        if self.section.subtract_mean:
            # Summed in float64, where the padding that a batch adds does not change the rounding.
            mean = waveform.sum(dim=1, dtype=torch.float64) / lengths.clamp(min=1)  # [B]
            waveform = (waveform - mean.float()[:, None]).masked_fill(past, 0.0)
        if samples < self._frame:
            waveform = functional.pad(waveform, (0, self._frame - samples))
        return waveform, lengths.clamp(min=self._frame)

    def _reflect(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Mirror each clip's edges about its own first and last sample: ``[B, S]`` to ``[B, S + 2 n]``."""
        extra = self._reflected
        if not extra:
            return waveform
        position = torch.arange(-extra, waveform.shape[1] + extra, device=waveform.device)  # [S + 2 n]
        last = lengths[:, None] - 1  # [B, 1]
        position = position.abs().expand(len(lengths), -1)  # [B, S + 2 n]
        position = torch.where(position > last, 2 * last - position, position)
        # Only frames past the end reach further than one reflection; any valid index serves them.
        return waveform.gather(1, position.clamp(min=0))


def _slaney_filters(section: FrontEndSection) -> Tensor:
    """Return the mel filters of the log-mel front end, float32 ``[n_fft // 2 + 1, F]``."""
    from torchaudio.functional import melscale_fbanks  # the import takes seconds

    return melscale_fbanks(
        n_freqs=section.n_fft // 2 + 1,
        f_min=section.f_min,
        f_max=section.f_max,
        n_mels=section.n_mels,
        sample_rate=section.sample_rate,
        norm="slaney",
        mel_scale="slaney",
    )
