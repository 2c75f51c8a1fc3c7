"""The base of external encoders: batches of equally long clips, and checks of what comes back."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_wb.encoder.external.module_import import call_external
from ssl_wb.encoder.waveforms import checked_waveform
from ssl_wb.errors import DataError, UsageError

log = logging.getLogger("ssl_wb")

__all__ = ["ExternalEncoder", "sample_rate_of"]

#: Pitch and level of the test tone.
TONE_HZ = 440.0
TONE_LEVEL = 0.3
#: Two lengths of the tone in seconds. The hop follows from how many more frames the second has.
TONE_SECONDS = (2, 4)


class ExternalEncoder(ABC):
    """An external encoder with the interface of our own.

    Many external encoders take no lengths and would embed a clip's padding. So each clip is cut to its own length, and
    only clips of equal length share a pass: an embedding does not depend on padding or on the rest of the batch.

    Embeddings are cached only for encoders with a dictionary ``settings`` of everything that they depend on. Others are
    embedded anew each time, because changes of their code cannot be detected.

    Args:
        source: as the user named it.
        sample_rate: samples per second that waveforms must have.

    Attributes:
        sample_rate: the same.
        hop_seconds: seconds between the frames of ``embed_frames``; NaN where their number does not grow with time.
    """

    def __init__(self, source: str, sample_rate: int) -> None:
        self.source = source
        self.sample_rate = sample_rate
        self.hop_seconds = float("nan")

    @abstractmethod
    def whole_frames(self, waveform: Tensor) -> Tensor:
        """Embed whole clips of one length, ``[n, S]``, as ``[n, T, D]``."""

    def whole_clips(self, waveform: Tensor) -> Tensor:
        """Embed whole clips of one length, ``[n, S]``, as ``[n, D]``: the mean over frames."""
        return self.whole_frames(waveform).mean(dim=1)

    @torch.no_grad()
    def embed_clip(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed whole clips.

        Args:
            waveform: ``[B, S]`` or ``[S]`` at ``sample_rate``, full scale 1.
            lengths: int64 ``[B]``, samples of each clip; all of S when None.

        Returns:
            float32 ``[B, D]``, on the CPU.

        Raises:
            UsageError: the waveform has another shape, is empty, or is not finite.
            DataError: the encoder fails, or what it returns has another shape.
        """
        return self._by_length(waveform, lengths, self.whole_clips, time=None)

    @torch.no_grad()
    def embed_frames(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms ``[B, S]`` frame by frame as float32 ``[B, T, D]``, 0 after a clip's end.

        Raises:
            UsageError: as :meth:`embed_clip`.
            DataError: as :meth:`embed_clip`.
        """
        return self._by_length(waveform, lengths, self.whole_frames, time=1)

    def _by_length(
        self, waveform: Tensor, lengths: Tensor | None, embed: Callable[[Tensor], Tensor], time: int | None
    ) -> Tensor:
        """Embed ``[B, S]`` in groups of equal length; axis ``time`` of the results, if any, is padded with 0."""
        waveform, lengths = checked_waveform(waveform, lengths)
        parts: list[tuple[Tensor, Tensor]] = []  # rows of the batch [n], their embeddings [n, ...]
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero().squeeze(1)  # [n]
            values = embed(waveform[rows, :length])
            if time is not None:
                # A frame that is exactly 0, as a ReLU gives in silence, gets the smallest positive number: only
                # padding is 0, which tells how many frames a clip has.
                values[..., 0] += (values == 0).all(dim=-1) * torch.finfo(values.dtype).tiny
            parts.append((rows, values))
        if time is not None:
            longest = max(values.shape[time] for _, values in parts)
            # F.pad takes pairs from the last dimension backwards.
            missing = [(0, 0) * (values.dim() - 1 - time) + (0, longest - values.shape[time]) for _, values in parts]
            parts = [(rows, F.pad(values, pad)) for (rows, values), pad in zip(parts, missing, strict=True)]
        shapes = list(dict.fromkeys(tuple(values.shape[1:]) for _, values in parts))
        if len(shapes) > 1:
            raise DataError(
                f"{self.source}: embeddings of clips of different length differ in shape: {shapes[0]} and {shapes[1]}",
                hint="An embedding must have as many values whatever the clip's length.",
            )
        result = torch.zeros(sum(len(rows) for rows, _ in parts), *shapes[0])
        for rows, values in parts:
            result[rows] = values
        return result

    def call(self, what: str, function: Callable[[], Any]) -> Any:
        """Run external code; turn any exception into one message.

        Args:
            what: name of the call for the message.
            function: makes the call.

        Raises:
            DataError: the call fails.
        """
        hint = "Try the encoder by itself on a waveform of that length."
        return call_external(self.source, what, function, hint, DataError)

    def checked(self, values: Any, what: str, clips: int, axes: str, width: int | None = None) -> Tensor:
        """Check the shape of what a call returned; return it as float32 on the CPU.

        Args:
            values: a tensor or array.
            what: name of the call for the message.
            clips: number of clips it was given.
            axes: names of the expected dimensions, as ``n T D``.
            width: expected size of the last, where the encoder declares it.

        Raises:
            DataError: it is no tensor or array, or has another shape.
        """
        expected = f"expected [{', '.join(axes.split())}] with n = {clips}" + (f", D = {width}" if width else "")
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(values)
        if not isinstance(values, Tensor):
            raise DataError(f"{self.source}: {what} returns a {type(values).__name__}", hint=f"A tensor: {expected}.")
        shape = tuple(values.shape)
        fits = len(shape) == len(axes.split()) and shape[0] == clips and 0 not in shape
        if not fits or (width and shape[-1] != width):
            raise DataError(
                f"{self.source}: {what} returns the shape {shape}, {expected}",
                hint="The encoder does not keep to its own interface.",
            )
        return values.detach().float().cpu()

    def try_out(self) -> None:
        """Embed a test tone of two lengths: mistakes show before hours of embedding, and the hop is measured.

        Raises:
            DataError: the encoder fails, or its embedding has a wrong shape or is not finite.
        """
        counts = []
        for seconds in TONE_SECONDS:
            time = torch.arange(seconds * self.sample_rate) / self.sample_rate  # [S]
            tone = TONE_LEVEL * torch.sin(2 * torch.pi * TONE_HZ * time)[None]  # [1, S]
            embeddings = {"embed_clip": self.embed_clip(tone), "embed_frames": self.embed_frames(tone)}
            for what, values in embeddings.items():
                if not bool(values.isfinite().all()):
                    raise DataError(
                        f"{self.source}: the embedding of a plain tone is not finite ({what}, {seconds} s)",
                        hint="Are the encoder's weights sound?",
                    )
            counts.append(embeddings["embed_frames"].shape[1])
        self._warn_if_unsteady(tone)
        if np.isnan(self.hop_seconds) and counts[1] > counts[0]:
            self.hop_seconds = (TONE_SECONDS[1] - TONE_SECONDS[0]) / (counts[1] - counts[0])

    def _warn_if_unsteady(self, tone: Tensor) -> None:
        """Warn where the embedding of a tone ``[1, S]`` differs from call to call, or with the rest of its batch."""
        noise = TONE_LEVEL * torch.randn(tone.shape, generator=torch.Generator().manual_seed(0))  # [1, S]
        first = self.embed_clip(tone)[0]  # [D]
        others = {
            "when it is embedded again (a module in training mode? call eval() on it)": self.embed_clip(tone)[0],
            "with the other clips of its batch": self.embed_clip(torch.cat([tone, noise]))[0],
        }
        for what, second in others.items():
            if not torch.allclose(first, second, rtol=1e-2, atol=1e-3 * float(first.abs().max())):
                cosine = float(torch.cosine_similarity(first, second, dim=0))
                log.warning("%s: the embedding of one clip changes %s: cosine %.3f", self.source, what, cosine)
                return


def sample_rate_of(owner: Any, name: str, source: str) -> int:
    """Return the sample rate in an attribute of an external encoder.

    Raises:
        UsageError: there is no such attribute, or it is no sample rate.
    """
    rate = getattr(owner, name, None)
    if not isinstance(rate, (int, float)) or rate != int(rate) or rate < 1:
        found = "has no attribute" if rate is None else f"says {rate!r} as its"
        raise UsageError(
            f"{source}: the {type(owner).__name__} {found} {name!r}",
            hint=f"{name!r} is the sample rate in Hz that the encoder wants, as 16000.",
        )
    return int(rate)
