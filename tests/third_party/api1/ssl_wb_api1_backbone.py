"""A convolutional backbone: depthwise convolutions along the patches that are there."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_wb.api import (
    Backbone,
    Field,
    Grid,
    PluginOptions,
    Trunk,
    attention,
    drop_path_scales,
    gather_rows,
    hookimpl,
    initialise,
    model_validator,
    patchify,
    sincos_2d,
)

API_VERSION = 1


class ConvOptions(PluginOptions):
    """Options of the backbone."""

    dim: int = Field(32, ge=8, description="Width.")
    depth: int = Field(3, ge=1, description="Blocks.")
    kernel: int = Field(3, ge=1, description="Patches that a convolution reaches, an odd number.")
    drop_path: float = Field(0.1, ge=0.0, lt=1.0, description="Stochastic depth of the last block.")

    @model_validator(mode="after")
    def _fits(self) -> ConvOptions:
        if self.dim % 4 or self.kernel % 2 == 0:
            raise ValueError(f"dim {self.dim} must be a multiple of 4, and kernel {self.kernel} odd")
        return self


class ConvBlock(nn.Module):
    """A depthwise convolution along the patches and an MLP, each behind a norm and added to its input."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.along = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, tokens: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
        """Map ``[B, K, D]`` to the block's output and its MLP's."""
        tokens = tokens + self.along(self.norm1(tokens).transpose(1, 2)).transpose(1, 2)
        added = self.mlp(self.norm2(tokens))
        return tokens + (added if scale is None else added * scale), added


class ConvTrunk(Trunk):
    """Blocks and a norm."""

    def __init__(self, options: ConvOptions) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConvBlock(options.dim, options.kernel) for _ in range(options.depth))
        self.final_norm = nn.LayerNorm(options.dim)
        self.rates = [options.drop_path * number / max(1, options.depth - 1) for number in range(options.depth)]

    def _pairs(self, tokens: Tensor, depth: int | None = None) -> list[tuple[Tensor, Tensor]]:
        scales = drop_path_scales(self.rates, len(tokens), tokens.device) if self.training else None
        pairs = []
        for number, block in enumerate(self.blocks[:depth]):
            tokens, added = block(tokens, None if scales is None else scales[number])
            pairs.append((tokens, added))
        return pairs

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, K, D]`` to latents ``[B, K, D]``."""
        return self.finish(self.layers(tokens)[-1])

    def layers(self, tokens: Tensor, depth: int | None = None) -> list[Tensor]:
        """Return each block's output."""
        if depth is not None and depth > len(self.blocks):
            raise ValueError(f"there is no block {depth}")
        return [output for output, _ in self._pairs(tokens, depth)]

    def finish(self, latents: Tensor) -> Tensor:
        """Apply the norm."""
        return super().finish(self.final_norm(latents))

    def layers_and_branches(self, tokens: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return each block's output and its MLP's."""
        pairs = self._pairs(tokens)
        return [output for output, _ in pairs], [added for _, added in pairs]

    def reset_parameters(self) -> None:
        """Draw fresh weights."""
        self.apply(initialise)


class Pooling(nn.Module):
    """One learned query that attends to the latents."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, 1, dim) * 0.02)

    def forward(self, latents: Tensor) -> Tensor:
        """Pool ``[B, K, D]`` to ``[B, D]``."""
        keys = latents[:, None]  # [B, 1, K, D]
        return attention(self.query.expand(len(latents), -1, -1, -1), keys, keys)[:, 0, 0]


class Conv(Backbone):
    """A convolutional encoder of patches."""

    name = "api1-conv"
    Options = ConvOptions
    options: ConvOptions
    trunk: ConvTrunk
    no_decay = frozenset({"tilt"})

    def __init__(self, options: ConvOptions, n_mels: int, frames: int) -> None:
        super().__init__(options, n_mels, frames)
        self.dim = options.dim
        self.patch = (16, 8)
        self.prefix_tokens = 1
        if n_mels < 16:
            raise ValueError(f"a patch of 16 mels is higher than {n_mels} mels")
        self.stem = nn.Conv2d(1, self.dim, self.patch)
        self.tilt = nn.Parameter(torch.zeros(n_mels // 16, self.dim))
        self.clip_token = nn.Parameter(torch.zeros(1, 1, self.dim))
        self.trunk = ConvTrunk(options)
        self.pooler = Pooling(self.dim)
        self.apply(initialise)
        # A spectrogram cut into patches is what the stem convolves.
        assert patchify(torch.zeros(1, n_mels, frames), self.patch).shape[1] == self.grid_of(frames).cells

    @property
    def pooling(self) -> nn.Module:
        """The query."""
        return self.pooler

    def embed(self, patches: Tensor, grid: Grid, indices: Tensor | None = None) -> Tensor:
        """Embed patches ``[B, N, P]``, those at ``indices [B, K]`` where given."""
        table = sincos_2d(grid, self.dim).to(patches)[None]  # [1, N, D]
        table = table + self.tilt.repeat_interleave(grid.time, dim=0)[None]
        if indices is not None:
            patches, table = gather_rows(patches, indices), gather_rows(table, indices)
        tiles = patches.flatten(0, 1).unflatten(1, (1, *self.patch))  # [B * K, 1, h, w]
        tokens = self.stem(tiles).flatten(1).unflatten(0, patches.shape[:2]) + table
        return torch.cat([self.clip_token.expand(len(tokens), -1, -1), tokens], dim=1)

    def pool(self, latents: Tensor) -> Tensor:
        """Attend to the latents ``[B, 1 + K, D]`` and add the mean over patches."""
        return self.pooler(latents) + super().pool(latents)


@hookimpl
def ssl_wb_backbones() -> list[type[Backbone]]:
    """Register the backbone."""
    return [Conv]
