"""Front ends in torch alone: ``log-mel``, ``db-mel`` and ``kaldi-fbank``, with the values of ssl-wb's plugins.

They hold no parameters and no buffers: their constants follow from the options. While a model is exported, the
short-time Fourier transform is a convolution with a sine and a cosine for each frequency, because a runtime without
torch has no other exact one; otherwise it is torch's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["FRONT_ENDS", "FrontEnd"]

#: The epsilon of float32: added to the mel power before the log, or its floor.
LOG_OFFSET = 1.1920929e-7
#: Least power of decibels: -100 dB.
LEAST_POWER = 1e-10
#: Names of the front ends that stand here.
FRONT_ENDS = ("log-mel", "db-mel", "kaldi-fbank")


def mel_points(low: float, high: float, count: int, slaney: bool) -> Tensor:
    """Return ``count`` frequencies in Hz, float64 ``[count]``, at equal distances on the slaney or HTK mel scale."""
    step = math.log(6.4) / 27  # of the logarithmic part of the slaney scale, which begins at 1000 Hz = 15 mel

    def to_mel(hz: float) -> float:
        if not slaney:
            return 2595.0 * math.log10(1.0 + hz / 700.0)
        return 3.0 * hz / 200.0 if hz < 1000.0 else 15.0 + math.log(hz / 1000.0) / step

    mel = torch.linspace(to_mel(low), to_mel(high), count, dtype=torch.float64, device="cpu")
    if not slaney:
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return torch.where(mel < 15.0, 200.0 * mel / 3.0, 1000.0 * torch.exp(step * (mel - 15.0)))


def mel_filters(options: Mapping[str, Any], slaney: bool) -> Tensor:
    """Return triangular mel filters, float64 ``[n_fft // 2 + 1, F]``; slaney ones are divided by their width."""
    points = mel_points(options["f_min"], options["f_max"], options["n_mels"] + 2, slaney)  # [F + 2]
    bins = options["n_fft"] // 2 + 1
    hz = torch.linspace(0, options["sample_rate"] // 2, bins, dtype=torch.float64, device="cpu")
    rise = (hz[:, None] - points[:-2]) / (points[1:-1] - points[:-2])  # [bins, F]
    fall = (points[2:] - hz[:, None]) / (points[2:] - points[1:-1])
    filters = torch.minimum(rise, fall).clamp(min=0.0)
    return filters * (2.0 / (points[2:] - points[:-2])) if slaney else filters


def kaldi_filters(options: Mapping[str, Any]) -> Tensor:
    """Return Kaldi's mel filters, float64 ``[n_fft // 2 + 1, F]``: triangles in mel; the last bin belongs to none."""

    def to_mel(hz: Tensor) -> Tensor:
        return 1127.0 * torch.log1p(hz / 700.0)

    edges = torch.tensor([options["f_min"], options["f_max"]], dtype=torch.float64, device="cpu")
    low, high = (float(one) for one in to_mel(edges))
    points = torch.linspace(low, high, options["n_mels"] + 2, dtype=torch.float64, device="cpu")  # [F + 2]
    half = options["n_fft"] // 2
    hz = options["sample_rate"] / options["n_fft"] * torch.arange(half, dtype=torch.float64, device="cpu")
    mel = to_mel(hz)[:, None]  # [half, 1]
    rise, fall = (mel - points[:-2]) / (points[1:-1] - points[:-2]), (points[2:] - mel) / (points[2:] - points[1:-1])
    return F.pad(torch.minimum(rise, fall).clamp(min=0.0), (0, 0, 0, 1))


class FrontEnd:
    """Waveforms to normalised log-mel spectrograms, in float32.

    Args:
        options: ``name`` and every option, as ``front_end`` in the folder's ``config.json``.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = dict(options)
        self.name = str(options["name"])
        if self.name not in FRONT_ENDS:
            raise ValueError(f"front end {self.name!r}: this code has {', '.join(FRONT_ENDS)}")
        self.hop = int(options["hop"])
        self.kaldi = self.name == "kaldi-fbank"
        self.taps = int(options["window"] if self.kaldi else options["n_fft"])  # samples of a frame
        centred = self.name == "db-mel" or bool(options.get("center", False))
        self.edge = options["n_fft"] // 2 if centred and not self.kaldi else 0
        self.mean, self.std = float(options["mean"]), float(options["std"])
        self.pad_value = self._normalised(0.0) if options["pad"] == "zero" else 0.0
        self._constants: dict[torch.device, dict[str, Tensor]] = {}

    def _normalised(self, value: Any) -> Any:
        return (value - self.mean) / (float(self.options["std_factor"]) * self.std)

    def constants(self, device: torch.device) -> dict[str, Tensor]:
        """Return window, filters and the kernel of the convolution, float32 on a device; made at the first call."""
        if device not in self._constants:
            self._constants[device] = {name: value.float().to(device) for name, value in self._made().items()}
        return self._constants[device]

    def _made(self) -> dict[str, Tensor]:
        """Return the constants in float64."""
        options, size = self.options, int(self.options["window"])
        window = torch.hann_window(size, periodic=not self.kaldi, dtype=torch.float64, device="cpu")  # [window]
        if options.get("window_shape") == "povey":
            window = window.pow(0.85)
        filters = kaldi_filters(options) if self.kaldi else mel_filters(options, self.name == "log-mel")
        left = (self.taps - size) // 2
        matrix = torch.diag(F.pad(window, (left, self.taps - size - left)))  # [taps, taps], what is done to a frame
        if self.kaldi:
            # Mean removal, pre-emphasis and window are linear in the frame.
            eye = torch.eye(size, dtype=torch.float64, device="cpu")
            previous = torch.cat([eye[:1], eye[:-1]])
            matrix = matrix @ (eye - options["preemphasis"] * previous) @ (eye - 1.0 / size)
        bins = torch.arange(options["n_fft"] // 2 + 1, dtype=torch.float64, device="cpu")
        taps = torch.arange(self.taps, dtype=torch.float64, device="cpu")
        angle = 2.0 * math.pi / options["n_fft"] * bins[:, None] * taps  # [bins, taps]
        kernel = torch.cat([angle.cos(), angle.sin()]) @ matrix  # [2 bins, taps]
        return {"window": window, "filters": filters, "kernel": kernel[:, None]}

    def power(self, waveform: Tensor) -> Tensor:
        """Return the power spectrum ``[B, n_fft // 2 + 1, T]`` of waveforms ``[B, S]``."""
        parts = self.constants(waveform.device)
        size, n_fft = int(self.options["window"]), int(self.options["n_fft"])
        if torch.compiler.is_exporting():
            real, imaginary = F.conv1d(waveform[:, None], parts["kernel"], stride=self.hop).chunk(2, dim=1)
            return real.square() + imaginary.square()
        if not self.kaldi:
            spectrum = torch.stft(
                waveform, n_fft, self.hop, size, window=parts["window"], center=False, return_complex=True
            )  # [B, bins, T]
            return torch.view_as_real(spectrum).square().sum(dim=-1)
        frames = waveform.unfold(1, size, self.hop)  # [B, T, window]
        frames = frames - frames.mean(dim=2, keepdim=True)
        previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
        frames = (frames - self.options["preemphasis"] * previous) * parts["window"]
        spectrum = torch.fft.rfft(frames, n=n_fft)  # [B, T, bins]
        return torch.view_as_real(spectrum).square().sum(dim=-1).transpose(1, 2)

    def __call__(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute spectrograms.

        Args:
            waveform: ``[B, S]``, full scale 1.
            lengths: int64 ``[B]``, samples of each clip.

        Returns:
            float32 ``[B, F, T]``, ``pad_value`` past a clip's end, and int64 ``[B]``, the frames of each clip.
        """
        with torch.autocast(device_type=waveform.device.type, enabled=False):
            waveform, lengths = self._prepared(waveform.float(), lengths)
            frames = 1 + (lengths + 2 * self.edge - self.taps) // self.hop  # [B]
            waveform = self._mirrored(waveform, lengths) * float(self.options.get("gain", 1.0))
            mel = self.constants(waveform.device)["filters"].T @ self.power(waveform)  # [B, F, T]
            past = torch.arange(mel.shape[2], device=mel.device) >= frames[:, None]  # [B, T]
            normalised = self._normalise(self._log(mel), past[:, None], frames)
            return normalised.masked_fill(past[:, None], self.pad_value), frames

    def _prepared(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Silence what lies past each clip's end, extend with silence, remove the clips' means if asked to."""
        samples, extended = waveform.shape[1], int(self.options["min_samples"])
        least = max(self.taps, extended)
        # While a model is exported sizes are symbols, and a choice by them would hold for the example alone: frames of
        # silence after the longest clip cost little and are not read.
        spare = least + 2 * self.hop if torch.compiler.is_exporting() else max(0, least - samples)
        waveform = F.pad(waveform, (0, spare))
        place = torch.arange(waveform.shape[1], device=waveform.device)
        waveform = waveform.masked_fill(place >= lengths[:, None], 0.0)
        lengths = lengths.clamp(min=extended)
        if self.options["subtract_mean"]:
            mean = waveform.sum(dim=1, dtype=torch.float64) / lengths.clamp(min=1)  # [B]
            waveform = (waveform - mean.float()[:, None]).masked_fill(place >= lengths[:, None], 0.0)
        return waveform, lengths.clamp(min=self.taps)

    def _mirrored(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Mirror each clip's edges about its own first and last sample: ``[B, S]`` to ``[B, S + 2 edge]``."""
        if not self.edge:
            return waveform
        last = lengths[:, None] - 1  # [B, 1]
        place = torch.arange(waveform.shape[1] + 2 * self.edge, device=waveform.device) - self.edge  # [S + 2 edge]
        position = place.abs().expand(waveform.shape[0], -1)  # [B, S + 2 edge]
        position = torch.where(position > last, 2 * last - position, position)
        return waveform.gather(1, position.clamp(min=0))

    def _log(self, mel: Tensor) -> Tensor:
        """Return the logarithm of mel power ``[B, F, T]``."""
        if self.name == "db-mel":
            return 10.0 * mel.clamp(min=LEAST_POWER).log10()
        return mel.clamp(min=LOG_OFFSET).log() if self.kaldi else (mel + LOG_OFFSET).log()

    def _normalise(self, values: Tensor, past: Tensor, frames: Tensor) -> Tensor:
        """Normalise ``[B, F, T]``; ``past`` ``[B, 1, T]`` marks what is after a clip's end, ``frames`` are ``[B]``."""
        if self.name == "db-mel":
            loudest = values.masked_fill(past, -torch.inf).amax(dim=(1, 2), keepdim=True)  # [B, 1, 1]
            values = torch.maximum(values, loudest - float(self.options["range_db"]))
            if self.options["band_scale"]:
                scale, shift = (
                    torch.tensor(self.options[name], device=values.device)[:, None]
                    for name in ("band_scale", "band_shift")
                )  # [F, 1] each
                return values * scale + shift
        if not self.options["clip_statistics"]:
            return self._normalised(values)
        count = (frames * values.shape[1])[:, None, None].clamp(min=2)  # [B, 1, 1]
        own = values.masked_fill(past, 0.0).double()
        mean = own.sum(dim=(1, 2), keepdim=True) / count
        squares = (own - mean).masked_fill(past, 0.0).square()
        std = (squares.sum(dim=(1, 2), keepdim=True) / (count - 1)).sqrt()
        return ((values - mean) / (float(self.options["std_factor"]) * std).clamp(min=LOG_OFFSET)).float()
