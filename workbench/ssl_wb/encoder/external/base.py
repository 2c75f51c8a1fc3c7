"""What encoders from elsewhere have in common: clips of one length share a pass, and what comes back is checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_wb.encoder.external.module_import import failure
from ssl_wb.encoder.waveforms import checked_waveform
from ssl_wb.errors import DataError, UsageError, WorkbenchError

__all__ = ["ExternalEncoder", "sample_rate_of"]

#: Pitch and level of the tone that an encoder is tried with.
TONE_HZ = 440.0
TONE_LEVEL = 0.3
#: The tone's lengths in seconds: what the second has more than the first tells the hop.
TONE_SECONDS = (2, 4)


class ExternalEncoder(ABC):
    """An encoder from elsewhere in the shape of ours.

    Such encoders know no lengths, or not all of them: what a clip is padded with they would embed. So every clip is cut
    to its own length, and clips of one length share a pass and no others: an embedding does not depend on what its clip
    is padded or batched with.

    An encoder that can say all that its embeddings depend on has a dictionary ``settings``, and its embeddings are
    kept; the code of the others may change anywhere, and theirs are not.

    Args:
        source: what the user named it by.
        sample_rate: samples per second that waveforms must have.

    Attributes:
        sample_rate: the same.
        hop_seconds: seconds between the frames of ``embed_frames``; NaN where frames do not follow time.
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
            UsageError: the waveform has another shape, holds no sample, or is not finite.
            DataError: the encoder fails, or what it returns has another shape.
        """
        return self._placed(waveform, lengths, self.whole_clips, time=None)

    @torch.no_grad()
    def embed_frames(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms ``[B, S]`` frame by frame as float32 ``[B, T, D]``, 0 past a clip's end.

        Raises:
            UsageError: as :meth:`embed_clip`.
            DataError: as :meth:`embed_clip`.
        """
        return self._placed(waveform, lengths, self.whole_frames, time=1)

    def _placed(
        self, waveform: Tensor, lengths: Tensor | None, embed: Callable[[Tensor], Tensor], time: int | None
    ) -> Tensor:
        """Embed ``[B, S]`` by groups of one length; dimension ``time`` of the results is filled up with 0."""
        parts = [(rows, embed(clips)) for rows, clips in _by_length(waveform, lengths)]
        if time is not None:
            longest = max(values.shape[time] for _, values in parts)
            parts = [(rows, _filled(values, time, longest)) for rows, values in parts]
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

    def ask(self, what: str, call: Callable[[], Any]) -> Any:
        """Call somebody else's code; whatever it raises becomes one message.

        Args:
            what: the call, as the user knows it.
            call: calls it.

        Raises:
            DataError: it fails.
        """
        try:
            return call()
        except WorkbenchError:
            raise
        except Exception as error:  # whatever somebody else's code raises
            raise DataError(
                f"{self.source}: {what} fails: {failure(error)}",
                hint="Try the encoder by itself on a waveform of that length.",
            ) from error

    def checked(self, values: Any, what: str, clips: int, axes: str, width: int | None = None) -> Tensor:
        """Bring what a call returned to float32 on the CPU.

        Args:
            values: a tensor or array.
            what: the call, as the user knows it.
            clips: how many it was given.
            axes: what its dimensions are to be, as ``n T D``.
            width: what the last is to be, where the encoder says so.

        Raises:
            DataError: it is no such tensor.
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
        """Embed a plain tone of two lengths, to tell the hop and to say early what is wrong.

        Raises:
            DataError: the encoder fails, or what it returns has another shape or is not finite.
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
        if np.isnan(self.hop_seconds) and counts[1] > counts[0]:
            self.hop_seconds = (TONE_SECONDS[1] - TONE_SECONDS[0]) / (counts[1] - counts[0])


def _by_length(waveform: Tensor, lengths: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows ``[n]`` and clips ``[n, own length]`` of waveforms ``[B, S]``, one length after the other."""
    waveform, own = checked_waveform(waveform.detach(), lengths)
    for length in own.unique().tolist():
        rows = (own == length).nonzero().squeeze(1)
        yield rows, waveform[rows, :length]


def _filled(values: Tensor, axis: int, size: int) -> Tensor:
    """Fill an axis of a tensor up to ``size`` with 0."""
    short = size - values.shape[axis]
    fill = values.new_zeros([short if number == axis else count for number, count in enumerate(values.shape)])
    return torch.cat([values, fill], dim=axis)


def sample_rate_of(owner: Any, name: str, source: str) -> int:
    """Return the sample rate that an attribute tells.

    Raises:
        UsageError: there is no such attribute, or it is no rate.
    """
    rate = getattr(owner, name, None)
    if not isinstance(rate, (int, float)) or rate != int(rate) or rate < 1:
        told = "has no attribute" if rate is None else f"says {rate!r} as its"
        raise UsageError(
            f"{source}: the {type(owner).__name__} {told} {name!r}",
            hint=f"{name!r} is the sample rate in Hz that the encoder wants, as 16000.",
        )
    return int(rate)
