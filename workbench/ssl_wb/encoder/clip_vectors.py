"""Kinds of embedding of a clip, and those that are no mean over frames: class token, pooled tokens, all tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssl_wb.encoder.reading import Chunk
from ssl_wb.errors import UsageError, did_you_mean
from ssl_wb.plugin.masker import Grid

if TYPE_CHECKING:
    from ssl_wb.encoder.encoder import FrozenEncoder

__all__ = ["EMBEDDINGS", "clip_tokens", "clip_vectors", "embedding_kind"]

#: What the embedding of a clip may be.
EMBEDDINGS = ("published", "folded", "frames", "clip-token", "pooled")


def embedding_kind(embedding: str, published: str) -> str:
    """Return the kind of embedding that is asked for, ``published`` resolved.

    Raises:
        UsageError: there is no such kind.
    """
    if embedding not in EMBEDDINGS:
        guess = did_you_mean(embedding, EMBEDDINGS)
        raise UsageError(f"embedding {embedding!r} is no kind{guess}", hint=f"kinds: {', '.join(EMBEDDINGS)}")
    return published if embedding == "published" else embedding


def _latents(
    encoder: FrozenEncoder, waveform: Tensor, lengths: Tensor, use: Callable[[Tensor, list[Chunk]], None]
) -> None:
    """Encode clips chunk by chunk; ``use`` gets the latents ``[n, prefix + N, D]`` of n chunks, and the chunks."""

    def encode(patches: Tensor, grid: Grid, chunks: list[Chunk]) -> list[Tensor]:
        use(encoder.backbone(encoder.backbone.embed(patches, grid)).float(), chunks)
        return []

    encoder.run_chunks(waveform, lengths, encode)


def clip_vectors(encoder: FrozenEncoder, waveform: Tensor, lengths: Tensor, kind: str) -> Tensor:
    """Embed clips as one vector of the backbone's width each; several chunks are averaged by their length.

    Args:
        encoder: the encoder.
        waveform: ``[B, S]``, checked.
        lengths: int64 ``[B]``.
        kind: "clip-token", the class token; or "pooled", the backbone's own pooling, as in its training.

    Returns:
        float32 ``[B, D]``.
    """
    sums = torch.zeros(len(waveform), encoder.backbone.dim, device=waveform.device)  # [B, D]
    counts = torch.zeros(len(waveform), 1, device=waveform.device)  # [B, 1]

    def use(latents: Tensor, chunks: list[Chunk]) -> None:
        vectors = latents[:, 0] if kind == "clip-token" else encoder.backbone.pool(latents).float()  # [n, D]
        for chunk, vector in zip(chunks, vectors, strict=True):
            sums[chunk.clip] += vector * chunk.encoded
            counts[chunk.clip] += chunk.encoded

    _latents(encoder, waveform, lengths, use)
    return sums / counts


def clip_tokens(encoder: FrozenEncoder, waveform: Tensor, lengths: Tensor) -> list[Tensor]:
    """Return the latents of all patches of each clip, ``[K, D]``, chunk after chunk, frequency-major in each."""
    pieces: dict[tuple[int, int], Tensor] = {}

    def use(latents: Tensor, chunks: list[Chunk]) -> None:
        for chunk, tokens in zip(chunks, latents[:, encoder.backbone.prefix_tokens :], strict=True):
            pieces[chunk.clip, chunk.place] = tokens  # [N, D]

    _latents(encoder, waveform, lengths, use)
    return [torch.cat([pieces[place] for place in sorted(pieces) if place[0] == clip]) for clip in range(len(waveform))]
