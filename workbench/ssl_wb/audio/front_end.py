"""The log-mel front end: waveforms to normalised spectrograms, in batch, on the training device.

METHODS A: power spectrogram under a periodic Hann window, slaney mel scale with slaney area norm, natural log
of the mel power plus float32's epsilon, then ``(x - mean) / std`` with the data's own statistics.
``center=True`` is M2D's variant (frames centred, edges reflected), ``center=False`` MATPAC's (the first frame
starts at sample 0, nothing is padded).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_wb.recipe.schema import FrontEndSection

__all__ = ["LOG_OFFSET", "FrontEnd"]

#: Added to the mel power before the log: the epsilon of float32 (METHODS A).
LOG_OFFSET = 1.1920929e-7


class FrontEnd(nn.Module):
    """Normalised log-mel spectrogram of waveforms, always computed in float32.

    A clip's frames do not depend on what it shares a batch with: edges are reflected about each clip's own
    end, and frames past it are exactly 0 once normalised, which is the data's mean (log-mel 0 would be loud,
    METHODS 0.10). A clip shorter than ``n_fft`` samples is extended to it with silence.

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
        from torchaudio.functional import melscale_fbanks  # the import takes seconds

        self.section = section
        filters = melscale_fbanks(
            n_freqs=section.n_fft // 2 + 1,
            f_min=section.f_min,
            f_max=section.f_max,
            n_mels=section.n_mels,
            sample_rate=section.sample_rate,
            norm="slaney",
            mel_scale="slaney",
        )  # [n_fft // 2 + 1, F]
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        # Both follow from the settings, so they stay out of saved files.
        self.register_buffer("window", torch.hann_window(section.window), persistent=False)
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
        padded = max(samples, self.section.n_fft) + 2 * self._reflected
        return 1 + (padded - self.section.n_fft) // self.section.hop

    def samples_of(self, frames: int) -> int:
        """Fewest samples that give ``frames`` frames.

        Never fewer than ``n_fft``, to which shorter clips are extended; so with ``center=True``, where even
        those have several frames, a smaller count of frames cannot be had and the answer is ``n_fft``.
        """
        padded = self.section.n_fft + (frames - 1) * self.section.hop
        return max(self.section.n_fft, padded - 2 * self._reflected)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute normalised log-mel spectrograms.

        Args:
            waveform: float ``[B, S]``, samples in -1..1.
            lengths: int64 ``[B]``, samples of each clip that count; None when all ``S`` do.

        Returns:
            float32 ``[B, F, T]``, 0 past a clip's end, and int64 ``[B]``, the frames of each clip.
        """
        log_mel, frames = self.log_mel(waveform, lengths)
        normalised = (log_mel - self.mean) / self.std  # [B, F, T]
        if lengths is None:
            return normalised, frames
        past = torch.arange(normalised.shape[2], device=normalised.device) >= frames[:, None]  # [B, T]
        return normalised.masked_fill(past[:, None, :], 0.0), frames

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
            frames = 1 + (lengths + 2 * self._reflected - self.section.n_fft) // self.section.hop  # [B]
            return (mel + LOG_OFFSET).log(), frames

    def _prepared(self, waveform: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Extend to ``n_fft`` samples and silence what lies past each clip's end."""
        samples = waveform.shape[1]
        if samples < self.section.n_fft:
            waveform = functional.pad(waveform, (0, self.section.n_fft - samples))
        if lengths is None:
            lengths = torch.full((waveform.shape[0],), samples, dtype=torch.int64, device=waveform.device)
        else:
            inside = torch.arange(waveform.shape[1], device=waveform.device) < lengths[:, None]  # [B, S]
            waveform = waveform.masked_fill(~inside, 0.0)
        return waveform, lengths.clamp(min=self.section.n_fft)

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
