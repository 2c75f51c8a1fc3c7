"""Backbones in torch alone: ``vit`` and ``beats``, with the parameters and values of ssl-wb's plugins.

They take a mask of the patches that count, so that chunks of unlike length share a pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BACKBONES", "Beats", "Vit"]

#: Width, blocks and heads of the ViT's named sizes.
SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}


def norm_or_not(dim: int, wanted: bool, eps: float) -> nn.Module:
    """Return a LayerNorm, or nothing."""
    return nn.LayerNorm(dim, eps=eps) if wanted else nn.Identity()


def sincos_2d(rows: int, columns: int, dim: int, time_first: bool) -> Tensor:
    """Return sine-cosine positions, float64 ``[rows, columns, dim]``: half of the width for time, half for rows."""
    rates = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64, device="cpu") / (dim // 4))

    def code(count: int) -> Tensor:
        angles = torch.arange(count, dtype=torch.float64, device="cpu")[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=1)  # [count, dim / 2]

    time = code(columns)[None].expand(rows, -1, -1)
    freq = code(rows)[:, None].expand(-1, columns, -1)
    return torch.cat([time, freq] if time_first else [freq, time], dim=2)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, dim: int, heads: int, key_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, dim * 3, bias=key_bias)
        self.q_bias = None if key_bias else nn.Parameter(torch.zeros(dim))
        self.v_bias = None if key_bias else nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Map tokens ``[n, K, D]`` to ``[n, K, D]``; ``mask`` ``[n, 1, 1, K]`` marks those that are attended to."""
        bias: Tensor = self.qkv.bias
        if self.q_bias is not None and self.v_bias is not None:
            bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(tokens, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1))  # [n, K, 3, heads, d]
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # [n, heads, K, d] each
        mixed = F.scaled_dot_product_attention(query, key, value, mask)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[n, K, D]`` to ``[n, K, D]``."""
        return self.fc2(F.gelu(self.fc1(tokens)))


class Block(nn.Module):
    """Attention and MLP with a LayerNorm before each, or after each residual sum."""

    def __init__(self, dim: int, heads: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        eps = options["norm_eps"]
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads, options["key_bias"])
        self.mlp = Mlp(dim, int(dim * options["mlp_ratio"]))
        self.post_norm = options["norm"] == "post"

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Map tokens ``[n, K, D]`` to ``[n, K, D]``."""
        if self.post_norm:
            tokens = self.norm1(tokens + self.attn(tokens, mask))
            return self.norm2(tokens + self.mlp(tokens))
        tokens = tokens + self.attn(self.norm1(tokens), mask)
        return tokens + self.mlp(self.norm2(tokens))


class VitTrunk(nn.Module):
    """Optional norm, transformer blocks, optional norm."""

    def __init__(self, dim: int, depth: int, heads: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.averaged = int(options["averaged_blocks"])
        self.pre_norm = norm_or_not(dim, options["pre_norm"], options["norm_eps"])
        self.blocks = nn.ModuleList(Block(dim, heads, options) for _ in range(depth))
        self.norm = norm_or_not(dim, options["final_norm"], options["norm_eps"])

    def forward(self, tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Map tokens ``[n, K, D]`` to latents ``[n, K, D]`` and each block's output, the last one normed."""
        tokens = self.pre_norm(tokens)
        outputs = []
        for block in self.blocks:
            tokens = block(tokens, mask)
            outputs.append(tokens)
        last = [self.norm(output) for output in outputs[-self.averaged :]]
        outputs[-1] = last[-1]
        return (last[0] if self.averaged == 1 else torch.stack(last).sum(dim=0) / self.averaged), outputs


class Vit(nn.Module):
    """Vision transformer over spectrogram patches.

    Args:
        options: as ``backbone`` in the folder's ``config.json``.
        n_mels: bands of the spectrogram.
        frames: frames of a training crop, which the table of trained positions is sized by.
        columns: most columns of patches in one pass.
    """

    def __init__(self, options: Mapping[str, Any], n_mels: int, frames: int, columns: int) -> None:
        super().__init__()
        size = SIZES[options["size"]]
        self.options = dict(options)
        names = ("dim", "depth", "heads")
        self.dim, depth, heads = (options[name] or own for name, own in zip(names, size, strict=True))
        height, width = options["patch"]
        self.rows, self.columns = n_mels // height, columns
        self.prefix = int(options["class_token"])
        self.proj = nn.Linear(height * width, self.dim)
        self.patch_norm = norm_or_not(self.dim, options["patch_norm"], options["norm_eps"])
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.dim)) if self.prefix else None
        self.trunk = VitTrunk(self.dim, depth, heads, options)
        self.pool_norm = norm_or_not(self.dim, options["pool_norm"], options["norm_eps"])
        self.position_table: nn.Parameter | None = None
        if options["positions"] == "trainable":
            if frames // width < columns:
                raise ValueError(f"{frames // width} columns of positions were trained, and {columns} are read at once")
            self.position_table = nn.Parameter(torch.zeros(1, self.rows * (frames // width), self.dim))
        self._fixed: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def positions(self, like: Tensor) -> Tensor:
        """Return the positions ``[rows, columns, D]`` of the largest grid, with device and type of ``like``."""
        if self.position_table is not None:
            return self.position_table[0].unflatten(0, (self.rows, -1))
        key = (like.device, like.dtype)
        if key not in self._fixed:
            table = sincos_2d(self.rows, self.columns, self.dim, self.options["positions_first"] == "time")
            self._fixed[key] = table.float().to(*key)
        return self._fixed[key]

    def forward(self, patches: Tensor, mask: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Encode patches.

        Args:
            patches: ``[n, N, P]``, frequency-major, of a grid of ``rows`` rows.
            mask: bool ``[n, N]``, the patches that count; None for all.

        Returns:
            Latents ``[n, prefix + N, D]`` and each block's output.
        """
        # By index and not by a slice, which would be a choice by the size while a model is exported.
        columns = torch.arange(patches.shape[1] // self.rows, device=patches.device)
        positions = self.positions(self.proj.weight).index_select(1, columns).flatten(0, 1)[None]  # [1, N, D]
        tokens = self.patch_norm(self.proj(patches)) + positions  # [n, N, D]
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
            mask = None if mask is None else F.pad(mask, (1, 0), value=True)
        return self.trunk(tokens, None if mask is None else mask[:, None, None])

    def pool(self, latents: Tensor, counted: Tensor) -> Tensor:
        """Pool latents ``[n, prefix + N, D]`` as in training, over the patches that ``counted`` ``[n, N]`` marks."""
        if self.options["pool"] == "class":
            return self.pool_norm(latents[:, 0])
        if self.options["pool"] == "all":
            counted = F.pad(counted, (self.prefix, 0), value=True)
        else:
            latents = latents[:, self.prefix :]
        weight = counted[..., None].to(latents.dtype)
        return self.pool_norm((latents * weight).sum(dim=1) / weight.sum(dim=1))


class BeatsBlock(nn.Module):
    """Attention with a gated distance bias and an MLP, each followed by a LayerNorm of the residual sum."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__()
        dim, self.heads = options["dim"], options["heads"]
        self.residual = (2.0 * options["depth"]) ** 0.25 if options["deep_norm"] else 1.0
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.gate = nn.Linear(dim // self.heads, 8)
        self.gate_scale = nn.Parameter(torch.ones(1, self.heads, 1, 1))
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-5), nn.LayerNorm(dim, eps=1e-5)
        self.fc1, self.fc2 = nn.Linear(dim, options["hidden"]), nn.Linear(options["hidden"], dim)

    def forward(self, tokens: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        """Map tokens ``[n, K, D]`` to ``[n, K, D]``; ``bias`` ``[1, heads, K, K]`` is that of their distances."""
        query, key, value = (
            part(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )  # [n, heads, K, d] each
        sums = self.gate(query).unflatten(-1, (2, 4)).sum(dim=-1)  # [n, heads, K, 2]
        first, second = sums.sigmoid().split(1, dim=-1)
        bias = (first * (second * self.gate_scale - 1.0) + 2.0) * bias  # [n, heads, K, K]
        if mask is not None:
            bias = bias.masked_fill(~mask[:, None, None], -torch.inf)
        mixed = F.scaled_dot_product_attention(query, key, value, bias).transpose(1, 2).flatten(2)
        tokens = self.norm1(self.residual * tokens + self.out(mixed))
        return self.norm2(self.residual * tokens + self.fc2(F.gelu(self.fc1(tokens))))


class BeatsTrunk(nn.Module):
    """Convolutional positions, a LayerNorm and the blocks, over time-major tokens."""

    def __init__(self, options: Mapping[str, Any], rows: int) -> None:
        super().__init__()
        self.options, self.rows = dict(options), rows
        dim, kernel = options["dim"], options["conv_kernel"]
        self.conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=options["conv_groups"])
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.distance_bias = nn.Embedding(options["buckets"], options["heads"])
        self.blocks = nn.ModuleList(BeatsBlock(options) for _ in range(options["depth"]))

    def distance_classes(self, count: int, device: torch.device) -> Tensor:
        """Return the class of the distance between any two of ``count`` tokens, int64 ``[count, count]``."""
        half = self.options["buckets"] // 2
        exact = half // 2
        place = torch.arange(count, device=device)
        offset = place[None, :] - place[:, None]
        size = offset.abs()
        far = (size.clamp(min=1).float() / exact).log() / math.log(self.options["max_distance"] / exact)
        wide = (exact + (far * (half - exact)).long()).clamp(max=half - 1)
        return (offset > 0).long() * half + torch.where(size < exact, size, wide)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Map tokens ``[n, K, D]``, frequency-major, to the last block's output and all of them."""
        count = tokens.shape[1]
        tokens = tokens.unflatten(1, (self.rows, -1)).transpose(1, 2).flatten(1, 2)  # [n, t * f, D]
        if mask is not None:
            mask = mask.unflatten(1, (self.rows, -1)).transpose(1, 2).flatten(1, 2)  # [n, t * f]
            tokens = tokens * mask[..., None]  # zeros, as the convolution pads a chunk that ends here
        positions = self.conv(tokens.transpose(1, 2))[..., :count]
        tokens = self.norm(tokens + F.gelu(positions).transpose(1, 2))
        # By index: in a graph, the node of nn.Embedding would be called as the graph's output is.
        bias = self.distance_bias.weight[self.distance_classes(count, tokens.device)].permute(2, 0, 1)[None]
        outputs = []
        for block in self.blocks:
            tokens = block(tokens, bias, mask)
            outputs.append(tokens.unflatten(1, (-1, self.rows)).transpose(1, 2).flatten(1, 2))
        return outputs[-1], outputs


class Beats(nn.Module):
    """The encoder of BEATs; arguments as for :class:`Vit`."""

    prefix = 0

    def __init__(self, options: Mapping[str, Any], n_mels: int, frames: int, columns: int) -> None:
        super().__init__()
        del frames, columns
        self.dim, width = options["dim"], options["patch_dim"]
        self.rows = n_mels // options["patch"]
        self.proj = nn.Linear(options["patch"] ** 2, width, bias=False)
        self.patch_norm = nn.LayerNorm(width, eps=1e-5)
        self.widen = nn.Identity() if width == self.dim else nn.Linear(width, self.dim)
        self.trunk = BeatsTrunk(options, self.rows)

    def forward(self, patches: Tensor, mask: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Encode patches ``[n, N, P]``, as :meth:`Vit.forward`."""
        return self.trunk(self.widen(self.patch_norm(self.proj(patches))), mask)

    def pool(self, latents: Tensor, counted: Tensor) -> Tensor:
        """Pool latents ``[n, N, D]``: the mean over the patches that ``counted`` ``[n, N]`` marks."""
        weight = counted[..., None].to(latents.dtype)
        return (latents * weight).sum(dim=1) / weight.sum(dim=1)


#: Backbones by their name in ``config.json``.
BACKBONES: dict[str, type[Vit] | type[Beats]] = {"vit": Vit, "beats": Beats}
