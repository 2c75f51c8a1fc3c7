"""A trainable copy of the encoder's backbone with a pooling and a linear head."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ssl_wb.layers.noise import step_noise
from ssl_wb.layers.patches import patchify
from ssl_wb.plugin.masker import Grid
from ssl_wb.probing.patchout import column_patchout, structured_patchout, two_way_patchout
from ssl_wb.probing.spectrograms import TrainableEncoder

__all__ = ["EncoderWithHead", "HeadNorm", "Pool", "published_pool"]

#: How latents become one vector: ``rows`` keeps the rows of the patch grid apart, as folded embeddings do
#: (``[B, rows * dim]``); ``[B, dim]`` are ``mean``, one mean over patches, ``clip-token``, the class token, and
#: ``pooled``, the backbone's own pooling.
Pool = Literal["rows", "mean", "clip-token", "pooled"]
#: What normalises the vector before the linear layer: BatchNorm without affine (EVAR, MATPAC), LayerNorm
#: (AudioMosaic, EAT), or nothing.
HeadNorm = Literal["batch", "layer", "none"]
#: What makes the pooled vector of an encoder's published way to fine-tune it.
_POOL_OF: dict[str, Pool] = {"folded": "rows", "frames": "mean", "clip-token": "clip-token", "pooled": "pooled"}

#: Standard deviation of the head's first weights (EVAR).
HEAD_STD = 0.01
#: Seeds are spread by a large odd factor, so that (seed 0, pass 1) and (seed 1, pass 0) do not meet.
SEED_STRIDE = 1_000_003


def published_pool(encoder: TrainableEncoder) -> Pool:
    """Return how the authors of an encoder's system pool when they fine-tune it; ``rows`` where it does not say."""
    return _POOL_OF[getattr(encoder, "fine_tuned", "folded")]


class EncoderWithHead(nn.Module):
    """A copy of the encoder's backbone, a pooling, and a head: a norm and a linear layer.

    Clips are cut into the chunks that the frozen encoder reads, so that a model trained on short crops meets no
    position it never saw. Pooling is over a clip's own columns; padding has no part in it. The class token and the
    backbone's own pooling see the padding of the last chunk, as they do in the published code. While it trains,
    stochastic layers of the backbone (drop path) act as in pre-training; their noise follows from torch's seed at
    construction and from the number of passes, and takes nothing from torch's own generator.

    Args:
        encoder: the encoder; it is copied, not changed.
        outputs: C.
        pool: how latents become one vector.
        patchout: fraction of patches left out in training: structured, or whole columns for ``rows``, where each row
            has to keep as many patches as the others.
        norm: what normalises the vector.
        head_std: standard deviation of the linear layer's first weights.
        patch_drop: shares of columns and of rows left out in training (AudioMAE, AudioMosaic), instead of ``patchout``.

    Raises:
        ValueError: ``clip-token`` without a class token, or ``rows`` with ``patch_drop``.
    """

    def __init__(
        self,
        encoder: TrainableEncoder,
        outputs: int,
        pool: Pool,
        patchout: float,
        norm: HeadNorm = "batch",
        head_std: float = HEAD_STD,
        patch_drop: Sequence[float] = (0.0, 0.0),
    ) -> None:
        super().__init__()
        if pool == "rows" and max(patch_drop) > 0:
            raise ValueError("patch_drop leaves out whole rows, which pool = 'rows' needs")
        if pool == "clip-token" and not encoder.backbone.prefix_tokens:
            raise ValueError("pool = 'clip-token', and the backbone has no class token")
        self.backbone = copy.deepcopy(encoder.backbone).requires_grad_(True)
        self._seed, self._passes = torch.initial_seed(), 0
        self.chunk_columns, self.pool = encoder.chunk_columns, pool
        self.patchout, self.patch_drop = patchout, patch_drop
        rows = self.backbone.grid_of(self.backbone.patch[1]).freq
        width = self.backbone.dim * (rows if pool == "rows" else 1)
        norms = {"batch": nn.BatchNorm1d(width, affine=False), "layer": nn.LayerNorm(width), "none": nn.Identity()}
        self.norm = norms[norm]
        self.linear = nn.Linear(width, outputs)
        nn.init.normal_(self.linear.weight, std=head_std)
        nn.init.zeros_(self.linear.bias)

    def forward(self, spectrogram: Tensor, columns: Tensor) -> Tensor:
        """Return logits ``[B, C]`` of ``[B, F, T]``, of which the first ``columns [B]`` patch columns hold sound."""
        return self.linear(self.norm(self.embed(spectrogram, columns)))

    def embed(self, spectrogram: Tensor, columns: Tensor) -> Tensor:
        """Pool a clip's latents to ``[B, D]``; in training some patches are left out. Arguments as ``forward``."""
        batch, _, frames = spectrogram.shape
        total = frames // self.backbone.patch[1]  # columns of the batch
        width = min(total, self.chunk_columns)
        # c chunks of t columns per clip, each with its own positions.
        chunks = spectrogram.unflatten(2, (total // width, -1)).permute(0, 2, 1, 3).flatten(0, 1)  # [B * c, F, frames]
        grid = self.backbone.grid_of(chunks.shape[2])
        sound = torch.arange(total, device=columns.device) < columns[:, None]  # [B, c * t]
        sound = sound.view(-1, width).float()  # [B * c, t]
        patches = patchify(chunks, self.backbone.patch)  # [B * c, N, P]
        weights = sound.repeat(1, grid.freq)  # [B * c, N]
        leaves_out = self.training and (self.patchout > 0 or max(self.patch_drop) > 0)
        visible = self._visible(grid, sound) if leaves_out else None
        if visible is not None:
            weights = weights.gather(1, visible)  # [B * c, K]
        with self._noise(len(patches), patches.device):
            latents = self.backbone(self.backbone.embed(patches, grid, visible))  # [B * c, prefix + K, d]
        if self.pool in ("clip-token", "pooled"):
            vectors = latents[:, 0] if self.pool == "clip-token" else self.backbone.pool(latents)  # [B * c, d]
            share = sound.sum(dim=1).view(batch, -1, 1)  # [B, c, 1]
            return (vectors.float().view(batch, -1, vectors.shape[1]) * share).sum(dim=1) / share.sum(dim=1)
        latents = latents[:, self.backbone.prefix_tokens :].float() * weights[:, :, None]  # [B * c, K, d]
        parts = grid.freq if self.pool == "rows" else 1
        summed = latents.reshape(batch, -1, parts, latents.shape[1] // parts, latents.shape[2]).sum(dim=(1, 3))
        counts = weights.reshape(batch, -1, parts, weights.shape[1] // parts).sum(dim=(1, 3))  # [B, parts]
        return (summed / counts.clamp(min=1.0)[:, :, None]).flatten(1)  # [B, parts * d]

    def _noise(self, rows: int, device: torch.device) -> AbstractContextManager[None]:
        """Return the context in which a pass over so many chunks draws its layers' noise: none in evaluation."""
        if not self.training:
            return nullcontext()
        self._passes += 1
        # Not drawn from torch's generator: models without stochastic layers keep their numbers. A generator's seed has
        # at most 63 bits here.
        generator = torch.Generator(device).manual_seed((self._seed * SEED_STRIDE + self._passes) % 2**63)
        return step_noise(generator, first_row=0, global_rows=rows, rows=rows)

    def _visible(self, grid: Grid, sound: Tensor) -> Tensor:
        """Choose the patches that are kept, int64 ``[B * c, K]``, sorted; ``sound`` is ``[B * c, t]``."""
        generator = torch.Generator(sound.device).manual_seed(int(torch.randint(2**62, ())))
        if max(self.patch_drop) > 0:
            return two_way_patchout(grid, sound, self.patch_drop[0], self.patch_drop[1], generator)
        patchout = column_patchout if self.pool == "rows" else structured_patchout
        return patchout(grid, sound, self.patchout, generator)

    def groups(self, rate: float, decay: float, layer_decay: float, *, freeze_embedding: bool) -> list[dict[str, Any]]:
        """Return an optimiser's groups with layer-wise learning rates (BEiT): ``rate * layer_decay ** (last - id)``.

        The embedding has id 0, block k (from 0) id k + 1, everything behind the blocks, as the head, the last id,
        blocks + 1. Biases, norms, tokens and fixed tables are not decayed, as in MAE's and AudioMosaic's fine-tuning.

        Args:
            rate: learning rate of the head.
            decay: weight decay of matrices.
            layer_decay: rate of a layer over that of the next one.
            freeze_embedding: leave patch embedding, positions and class token as they are.
        """
        depth = 1 + max((_block(name) for name, _ in self.named_parameters()), default=-1)
        groups: dict[tuple[int, bool], dict[str, Any]] = {}
        for name, parameter in self.named_parameters():
            layer = depth + 1
            if name.startswith("backbone.") and not name.startswith(("backbone.trunk.", "backbone.pool_norm.")):
                layer = 0
                parameter.requires_grad_(not freeze_embedding)
            elif _block(name) >= 0:
                layer = _block(name) + 1
            # A class token is [1, 1, D].
            token = parameter.numel() == parameter.shape[-1] if parameter.dim() else True
            matrix = not token and name.removeprefix("backbone.") not in self.backbone.no_decay
            settings = {"lr": rate * layer_decay ** (depth + 1 - layer), "weight_decay": decay * matrix, "params": []}
            groups.setdefault((layer, matrix), settings)["params"].append(parameter)
        return list(groups.values())


def _block(name: str) -> int:
    """Return the number of the block that a parameter belongs to; -1 if to none."""
    start = "backbone.trunk.blocks."
    return int(name.removeprefix(start).split(".")[0]) if name.startswith(start) else -1
