"""The frozen encoder: any length, the same result whatever the padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.audio.front_end import FrontEnd
from ssl_wb.contracts.backbone import Backbone
from ssl_wb.contracts.masker import Grid
from ssl_wb.errors import UsageError
from ssl_wb.layers.patches import patchify

__all__ = ["FrozenEncoder"]

#: Patches embedded in one pass, to bound the memory of long recordings and large batches.
PATCHES_PER_PASS = 16_384


@dataclass(frozen=True)
class _Chunk:
    """A stretch of one clip: row of the batch, first patch column, columns."""

    row: int
    first: int
    columns: int


class FrozenEncoder(nn.Module):
    """Front end and backbone of a pre-trained encoder, without gradient.

    A spectrogram is padded to whole patches with the front end's ``pad_value`` (by default 0, the data's mean), cut
    into chunks of at most ``chunk_frames`` frames, each encoded alone, the last one short. Chunks of equal
    length share a pass and no others, so a clip's embedding does not depend on what it is batched with.

    Attributes:
        sample_rate: samples per second that waveforms must have.
        hop_seconds: seconds between the frames of ``embed_frames``: the width of a patch.
        dim: width of an embedding: rows of the patch grid x width of the backbone.
    """

    def __init__(self, front_end: FrontEnd, backbone: Backbone, chunk_frames: int) -> None:
        super().__init__()
        self.front_end = front_end
        self.backbone = backbone
        self.patch_width = backbone.patch[1]
        self.chunk_columns = max(1, chunk_frames // self.patch_width)
        self.rows = backbone.grid_of(self.patch_width).freq
        self.dim = self.rows * backbone.dim
        self.sample_rate = front_end.sample_rate
        self.hop_seconds = front_end.hop_seconds * self.patch_width
        self.requires_grad_(False)
        self.eval()

    def columns_of(self, samples: int) -> int:
        """Return the frames ``embed_frames`` gives for a clip of ``samples`` samples."""
        return -(-self.front_end.frames_of(samples) // self.patch_width)

    @torch.no_grad()
    def embed_frames(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms frame by frame.

        Args:
            waveform: ``[B, S]`` or ``[S]`` at ``sample_rate``, full scale 1.
            lengths: int64 ``[B]``, samples of each clip; all of S when None.

        Returns:
            float32 ``[B, T, D]``, one embedding per ``hop_seconds``; past a clip's end 0. The rows of the patch grid
            are joined in the feature axis, low frequencies first.

        Raises:
            UsageError: the waveform has another shape, holds no sample, or is not finite.
        """
        return self._embed(waveform, lengths, lambda tokens: [self.backbone(tokens)])[0]

    @torch.no_grad()
    def layers(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms with every layer: ``waveform`` ``[B, S]`` to ``[B, layers, T, D]``, the last one normed."""
        return torch.stack(self._embed(waveform, lengths, self.backbone.layers), dim=1)

    @torch.no_grad()
    def embed_clip(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed whole clips: ``waveform`` ``[B, S]`` to ``[B, D]``, the mean over each clip's own frames."""
        frames = self.embed_frames(waveform, lengths)  # [B, T, D]
        waveform, lengths = self._checked(waveform, lengths)
        counts = torch.tensor([self.columns_of(int(length)) for length in lengths], device=frames.device)
        return frames.sum(dim=1) / counts[:, None]

    def _checked(self, waveform: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Bring ``[S]`` or ``[B, S]`` and optional lengths to ``[B, S]`` and ``[B]`` on the encoder's device."""
        if waveform.dim() == 1:
            waveform = waveform[None]
        if waveform.dim() != 2 or waveform.numel() == 0:
            raise UsageError(
                f"a waveform of shape {tuple(waveform.shape)} cannot be embedded",
                hint="give [samples] or [clips, samples], one channel, at least one sample",
            )
        waveform = waveform.to(self.front_end.mean.device, torch.float32)
        if not bool(waveform.isfinite().all()):
            raise UsageError("the waveform holds values that are not finite", hint="repair or drop the recording")
        if lengths is None:
            lengths = torch.full((len(waveform),), waveform.shape[1])
        if lengths.shape != (len(waveform),) or int(lengths.min()) < 1 or int(lengths.max()) > waveform.shape[1]:
            raise UsageError(
                f"lengths {lengths.tolist()[:8]} do not fit waveforms of shape {tuple(waveform.shape)}",
                hint="give one length per clip, between 1 and the samples of the waveform",
            )
        return waveform, lengths.to(waveform.device)

    def _embed(
        self, waveform: Tensor, lengths: Tensor | None, encode: Callable[[Tensor], list[Tensor]]
    ) -> list[Tensor]:
        """Embed ``[B, S]`` as one ``[B, T, D]`` for each latent that ``encode`` returns."""

        def read(patches: Tensor, grid: Grid) -> list[Tensor]:
            return [self._join_rows(latents, grid) for latents in encode(self.backbone.embed(patches, grid))]

        return self.by_chunk(waveform, lengths, read)

    def by_chunk(
        self, waveform: Tensor, lengths: Tensor | None, read: Callable[[Tensor, Grid], list[Tensor]]
    ) -> list[Tensor]:
        """Cut clips into chunks, have them read, and put what comes back in place.

        Args:
            waveform: ``[B, S]`` or ``[S]`` at ``sample_rate``, full scale 1.
            lengths: int64 ``[B]``, samples of each clip; all of S when None.
            read: called as ``read(patches, grid)`` with ``[n, N, P]`` of n chunks of one length; returns one or several
                ``[n, grid.time, d]``.

        Returns:
            One float32 ``[B, T, d]`` for each that ``read`` returns; past a clip's end 0.

        Raises:
            UsageError: the waveform has another shape, holds no sample, or is not finite.
        """
        waveform, lengths = self._checked(waveform, lengths)
        spectrogram, frames = self.front_end(waveform, lengths)  # [B, F, frames], [B]
        columns = [-(-int(count) // self.patch_width) for count in frames]
        width = max(columns)
        short = max(0, width * self.patch_width - spectrogram.shape[2])
        spectrogram = F.pad(spectrogram, (0, short), value=float(self.front_end.pad_value))
        results: list[Tensor] = []
        for chunks in self._passes(columns):
            pieces = torch.stack(
                [
                    spectrogram[c.row, :, c.first * self.patch_width : (c.first + c.columns) * self.patch_width]
                    for c in chunks
                ]
            )  # [chunks, F, frames]
            grid = Grid(self.rows, chunks[0].columns)
            for number, values in enumerate(read(patchify(pieces, self.backbone.patch), grid)):
                if len(results) <= number:
                    results.append(torch.zeros(len(waveform), width, values.shape[2], device=waveform.device))
                for chunk, value in zip(chunks, values.float(), strict=True):
                    results[number][chunk.row, chunk.first : chunk.first + chunk.columns] = value
        return results

    def _join_rows(self, latents: Tensor, grid: Grid) -> Tensor:
        """Turn latents ``[n, prefix + f * t, d]`` into frames ``[n, t, f * d]``."""
        patches = latents[:, self.backbone.prefix_tokens :]
        tiles = patches.reshape(len(patches), grid.freq, grid.time, -1)
        return tiles.transpose(1, 2).reshape(len(patches), grid.time, -1)

    def _passes(self, columns: list[int]) -> Iterator[list[_Chunk]]:
        """Cut clips of the given numbers of columns into chunks and group chunks of equal length."""
        groups: dict[int, list[_Chunk]] = {}
        for row, count in enumerate(columns):
            for first in range(0, count, self.chunk_columns):
                chunk = _Chunk(row, first, min(self.chunk_columns, count - first))
                groups.setdefault(chunk.columns, []).append(chunk)
        for length, chunks in sorted(groups.items()):
            size = max(1, PATCHES_PER_PASS // (length * self.rows))
            for begin in range(0, len(chunks), size):
                yield chunks[begin : begin + size]
