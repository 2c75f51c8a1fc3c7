"""The encoder in torch alone: waveforms of any length to embeddings, with the values of ssl-wb.

A spectrogram is cut into chunks as the encoder was trained on; all chunks share a pass, and a mask keeps what lies past
a clip's end out of attention. No step depends on values, so that the whole can be exported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.encoder.carried.backbones import BACKBONES
from ssl_wb.encoder.carried.front_ends import FrontEnd

__all__ = ["Encoded", "PortableEncoder"]

#: Patches encoded in one pass.
PATCHES_PER_PASS = 16_384


class Encoded(NamedTuple):
    """What an encoder gives for a batch.

    Attributes:
        embedding: float32 ``[B, D]``, of each clip.
        frames: float32 ``[B, T, d]``, 0 after a clip's end.
        layers: the same of each block, the last one normed.
        columns: int64 ``[B]``, frames of each clip.
    """

    embedding: Tensor
    frames: Tensor
    layers: list[Tensor]
    columns: Tensor


class PortableEncoder(nn.Module):
    """Front end and backbone of an encoder folder.

    Args:
        config: content of the folder's ``config.json``.

    Raises:
        ValueError: this code does not have the encoder's front end or backbone.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        options, reading = config["backbone"], config["reading"]
        if options["name"] not in BACKBONES:
            raise ValueError(f"backbone {options['name']!r}: this code has {', '.join(BACKBONES)}")
        if not reading["chunk_frames"]:
            raise ValueError("clips that are encoded whole: this code encodes them in chunks")
        patch = options["patch"]
        self.height: int = patch if isinstance(patch, int) else patch[0]
        self.width: int = patch if isinstance(patch, int) else patch[1]
        self.step = max(self.width, reading["chunk_frames"])  # frames from one chunk to the next
        self.full = self.step // self.width  # columns of a whole chunk
        self.padded, self.cut = bool(reading["padded_chunks"]), reading["long_clips"] == "cut"
        self.dropped = reading["partial_patch"] == "dropped"
        self.kind = str(config["embedding"]["published"])
        self.front_end = FrontEnd(config["front_end"])
        self.backbone = BACKBONES[options["name"]](options, config["front_end"]["n_mels"], config["frames"], self.full)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Encoded:
        """Embed clips.

        Args:
            waveform: ``[B, S]`` at the encoder's sample rate, full scale 1.
            lengths: int64 ``[B]``, samples of each clip; all of S when None.
        """
        if lengths is None:
            lengths = torch.full((waveform.shape[0],), waveform.shape[1], device=waveform.device)
        spectrogram, frames = self.front_end(waveform, lengths)  # [B, F, T], [B]
        if self.cut:
            frames = frames.clamp(max=self.step)
        chunks, columns, total = self._sizes(frames)
        own, encoded = self._counts(frames, chunks)  # [B, n] each
        patches = self._patches(spectrogram, chunks, columns)  # [B * n, N, P]
        # Chunks after a clip's end are encoded too, with nothing masked, and weigh nothing.
        place = torch.arange(columns, device=waveform.device)
        read = place < torch.where(encoded > 0, encoded, self.full)[..., None]  # [B, n, c]
        mask = read.flatten(0, 1)[:, None].expand(-1, self.backbone.rows, -1).flatten(1)  # [B * n, N]
        everything = not torch.compiler.is_exporting() and bool(mask.all())
        latents, layers = self._encode(patches, None if everything else mask)
        valid = (place < own[..., None]).flatten(1)[..., None]  # [B, n * c, 1]

        def joined(latents: Tensor) -> Tensor:
            return first(self._joined(latents, chunks, columns) * valid, total)  # [B, T, d]

        found = joined(latents)
        if self.kind in ("clip-token", "pooled"):
            latents = latents.float()
            vectors = latents[:, 0] if self.kind == "clip-token" else self._pooled(latents, mask)  # [B * n, D]
            weights = encoded[..., None].float()  # [B, n, 1]
            embedding = (vectors.float().unflatten(0, (-1, chunks)) * weights).sum(dim=1) / weights.sum(dim=1)
        else:
            embedding = found.sum(dim=1) / own.sum(dim=1)[:, None]
        return Encoded(embedding, found, [joined(one) for one in layers], own.sum(dim=1))

    def _encode(self, patches: Tensor, mask: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Encode patches ``[n, N, P]``; some chunks at a time, to bound the memory that long clips take."""
        patches = patches.to(next(self.backbone.parameters()).dtype)
        if torch.compiler.is_exporting():
            return self.backbone(patches, mask)
        size = max(1, PATCHES_PER_PASS // patches.shape[1])
        masks = mask.split(size) if mask is not None else [None] * -(-len(patches) // size)
        passes = [self.backbone(*one) for one in zip(patches.split(size), masks, strict=True)]
        if len(passes) == 1:
            return passes[0]
        return torch.cat([one[0] for one in passes]), [
            torch.cat(each) for each in zip(*(one[1] for one in passes), strict=True)
        ]

    def _pooled(self, latents: Tensor, mask: Tensor) -> Tensor:
        weight_type = next(self.backbone.parameters()).dtype
        return self.backbone.pool(latents.to(weight_type), mask)

    def _sizes(self, frames: Tensor) -> tuple[int, int, int]:
        """Return the chunks of the longest clip, the columns of a chunk, and all columns of that clip."""
        longest = frames.max()
        chunks = (longest + self.step - 1) // self.step
        # Two at least while a model is exported: torch's attention asks whether there is one token alone.
        least = min(self.full, 2 if torch.compiler.is_exporting() else 1)
        columns = ((longest + self.width - 1) // self.width).clamp(min=least, max=self.full)
        own, _ = self._counts(longest[None], checked_size(chunks))
        return (
            checked_size(chunks),
            self.full if self.padded else checked_size(columns, least),
            checked_size(own.sum()),
        )

    def _counts(self, frames: Tensor, chunks: Any) -> tuple[Tensor, Tensor]:
        """Return, int64 ``[B, n]`` each, the columns that a chunk gives and those that are encoded of it."""
        number = torch.arange(chunks, device=frames.device)  # [n]
        rest = (frames[:, None] - number * self.step).clamp(min=0, max=self.step)  # [B, n], frames of each chunk
        own = (rest if self.dropped else rest + self.width - 1) // self.width
        own = own.clamp(max=self.full)
        own = torch.where(number == 0, own.clamp(min=1), own)  # a clip shorter than a patch is padded to one
        return own, torch.where(own > 0, self.full, 0) if self.padded else own

    def _patches(self, spectrogram: Tensor, chunks: Any, columns: Any) -> Tensor:
        """Cut ``[B, F, T]`` into chunks and these into patches, frequency-major: ``[B * n, N, P]``."""
        rows, height, width = self.backbone.rows, self.height, self.width
        spectrogram = F.pad(spectrogram[:, : rows * height], (0, self.step), value=self.front_end.pad_value)
        pieces = first(spectrogram, chunks * self.step, dim=2).unflatten(2, (chunks, self.step))  # [B, F, n, step]
        pieces = first(pieces, columns * width, dim=3).unflatten(3, (columns, width)).unflatten(1, (rows, height))
        tiles = pieces.permute(0, 3, 1, 4, 2, 5)  # [B, n, f, c, height, width]
        return tiles.flatten(4).flatten(2, 3).flatten(0, 1)

    def _joined(self, latents: Tensor, chunks: int, columns: int) -> Tensor:
        """Turn latents ``[B * n, prefix + N, D]`` into columns ``[B, n * c, d]``, rows concatenated or averaged."""
        tiles = latents[:, self.backbone.prefix :].float().unflatten(1, (self.backbone.rows, columns))
        joined = tiles.mean(dim=1) if self.kind == "frames" else tiles.transpose(1, 2).flatten(2)  # [B * n, c, d]
        return joined.unflatten(0, (-1, chunks)).flatten(1, 2)


def checked_size(size: Tensor, least: int = 1) -> int:
    """Return a number as a size of ``least`` at least; while a model is exported it stays a symbol."""
    value = size.item()
    torch._check(value >= least)
    return value  # type: ignore[return-value]


def first(values: Tensor, count: int, dim: int = 1) -> Tensor:
    """Return the first ``count`` entries of a dimension; a slice would be a choice by the size."""
    return values.index_select(dim, torch.arange(count, device=values.device))
