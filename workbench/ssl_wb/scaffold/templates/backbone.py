"""A backbone: patches to latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_wb.api import Backbone, Field, Grid, PluginOptions, Trunk, gather_rows, hookimpl, sincos_2d


class NewPluginOptions(PluginOptions):
    """Options: every one has bounds and a description."""

    dim: int = Field(64, ge=8, multiple_of=4, description="Width.")
    depth: int = Field(2, ge=1, description="Blocks.")
    patch: int = Field(16, ge=1, description="Patch height in mels and width in frames.")


class MixBlock(nn.Module):
    """An MLP over features, with the mean of all tokens as context; replace it by your idea."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, K, D]`` to ``[B, K, D]``."""
        normed = self.norm(tokens)  # [B, K, D]
        context = normed.mean(dim=1, keepdim=True).expand_as(normed)  # [B, K, D]
        mixed: Tensor = self.mlp(torch.cat([normed, context], dim=-1))  # [B, K, D]
        return tokens + mixed


class NewPluginTrunk(Trunk):
    """Blocks and a norm; the EMA teacher copies them."""

    def __init__(self, options: NewPluginOptions) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(MixBlock(options.dim) for _ in range(options.depth))
        self.norm = nn.LayerNorm(options.dim)

    def final_norm(self, latents: Tensor) -> Tensor:
        """Apply the norm to ``[B, K, D]``."""
        normed: Tensor = self.norm(latents)
        return normed

    def layers(self, tokens: Tensor, depth: int | None = None) -> list[Tensor]:
        """Return the output ``[B, K, D]`` of each of the first ``depth`` blocks."""
        if depth is not None and depth > len(self.blocks):
            raise ValueError(f"block {depth} is asked for, and there are {len(self.blocks)}")
        outputs = []
        for block in self.blocks[:depth]:
            tokens = block(tokens)
            outputs.append(tokens)
        return outputs

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, K, D]`` to latents ``[B, K, D]``."""
        return self.final_norm(self.layers(tokens)[-1])


class NewPlugin(Backbone):
    """Mixes each patch with the mean of all patches.

    Any number of frames: positions are sines and cosines of the grid.
    """

    name = "new-plugin"
    reference = ""
    Options = NewPluginOptions
    options: NewPluginOptions
    trunk: NewPluginTrunk

    def __init__(self, options: NewPluginOptions, n_mels: int, frames: int) -> None:
        super().__init__(options, n_mels, frames)
        if n_mels < options.patch:
            raise ValueError(f"a patch of {options.patch} mels is higher than {n_mels} mels")
        self.dim = options.dim
        self.patch = (options.patch, options.patch)
        self.prefix_tokens = 0
        self.projection = nn.Linear(options.patch**2, options.dim)
        self.trunk = NewPluginTrunk(options)

    def embed(self, patches: Tensor, grid: Grid, indices: Tensor | None = None) -> Tensor:
        """Embed patches ``[B, N, P]``, those at ``indices [B, K]`` where given."""
        table = sincos_2d(grid, self.dim).to(patches)  # [N, D]
        tokens: Tensor = self.projection(patches) + table  # [B, N, D]
        return tokens if indices is None else gather_rows(tokens, indices)


@hookimpl
def ssl_wb_backbones() -> list[type[Backbone]]:
    """Offer this backbone."""
    return [NewPlugin]
