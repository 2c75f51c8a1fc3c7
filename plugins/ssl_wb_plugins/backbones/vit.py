"""Vision transformer over spectrogram patches."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ssl_wb.api import (
    Backbone,
    Block,
    Field,
    Grid,
    PluginOptions,
    Trunk,
    gather_rows,
    hookimpl,
    initialise,
    model_validator,
    sincos_2d,
)


class Size(NamedTuple):
    """Width, blocks and heads of a named size."""

    dim: int
    depth: int
    heads: int


SIZES = {
    "tiny": Size(192, 12, 3),
    "small": Size(384, 12, 6),
    "base": Size(768, 12, 12),
    "large": Size(1024, 24, 16),
}


class VitOptions(PluginOptions):
    """Options of the ViT; ``size`` sets width, depth and heads, each of which can be given apart."""

    size: Literal["tiny", "small", "base", "large"] = Field(
        "base", description="tiny 192x12, small 384x12, base 768x12, large 1024x24 (width x blocks)."
    )
    dim: int | None = Field(None, ge=8, description="Width; the size's unless given. A multiple of 4 and of heads.")
    depth: int | None = Field(None, ge=1, description="Blocks; the size's unless given.")
    heads: int | None = Field(None, ge=1, description="Attention heads; the size's unless given.")
    mlp_ratio: float = Field(4.0, gt=0.0, description="Hidden width of the MLP over the width.")
    patch: list[int] = Field(
        default_factory=lambda: [16, 16],
        min_length=2,
        max_length=2,
        description="Patch height in mels, width in frames.",
    )

    @property
    def shape(self) -> Size:
        """Width, blocks and heads after ``size`` is filled in."""
        size = SIZES[self.size]
        return Size(self.dim or size.dim, self.depth or size.depth, self.heads or size.heads)

    @model_validator(mode="after")
    def _consistent(self) -> VitOptions:
        dim, _, heads = self.shape
        if dim % heads or dim % 4:
            raise ValueError(f"dim {dim} must be a multiple of 4 and of heads ({heads})")
        if min(self.patch) < 1:
            raise ValueError(f"patch {self.patch} must be two positive numbers")
        return self


class VitTrunk(Trunk):
    """Transformer blocks and the final norm."""

    def __init__(self, size: Size, mlp_ratio: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(size.dim, size.heads, mlp_ratio) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.dim, eps=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, K, D]`` to normed latents ``[B, K, D]``."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def layers(self, tokens: Tensor) -> list[Tensor]:
        """Return each block's output ``[B, K, D]``, the last one normed."""
        outputs = []
        for block in self.blocks:
            tokens = block(tokens)
            outputs.append(tokens)
        outputs[-1] = self.norm(tokens)
        return outputs

    def reset_parameters(self) -> None:
        """Draw fresh weights."""
        self.apply(initialise)


class Vit(Backbone):
    """Pre-norm vision transformer with a class token and fixed 2-D sine-cosine positions.

    The encoder of MSM-MAE, M2D and MATPAC: a linear projection of each patch, positions added, a learned class token
    with no position in front, GELU MLPs, a final LayerNorm.
    """

    name = "vit"
    reference = "Dosovitskiy et al. 2021, arXiv 2010.11929; positions of MAE, arXiv 2111.06377"
    Options = VitOptions
    options: VitOptions
    prefix_tokens = 1

    def __init__(self, options: VitOptions, n_mels: int) -> None:
        super().__init__(options, n_mels)
        size = options.shape
        self.dim = size.dim
        self.patch = (options.patch[0], options.patch[1])
        if n_mels < self.patch[0]:
            raise ValueError(f"a patch of {self.patch[0]} mels is higher than the {n_mels} mels of the front end")
        self.proj = nn.Linear(self.patch[0] * self.patch[1], size.dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.dim))
        self.trunk = VitTrunk(size, options.mlp_ratio)
        self._tables: dict[tuple[Grid, torch.device], Tensor] = {}
        self.apply(initialise)
        nn.init.normal_(self.cls_token, std=0.02)

    def positions(self, grid: Grid, device: torch.device) -> Tensor:
        """Return the fixed position table ``[1, N, D]`` of a grid."""
        key = (grid, device)
        if key not in self._tables:
            self._tables[key] = sincos_2d(grid, self.dim)[None].to(device)
        return self._tables[key]

    def embed(self, patches: Tensor, grid: Grid, indices: Tensor | None = None) -> Tensor:
        """Embed patches ``[B, N, P]`` at ``indices [B, K]`` as tokens ``[B, 1 + K, D]``."""
        positions = self.positions(grid, patches.device)
        if indices is not None:
            # Only the patches asked for are projected: the projection of the others would be thrown away.
            patches = gather_rows(patches, indices)
            positions = gather_rows(positions, indices)
        tokens = self.proj(patches) + positions  # [B, K, D]
        return torch.cat([self.cls_token.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], dim=1)


@hookimpl
def ssl_wb_backbones() -> list[type[Backbone]]:
    """Register the ViT."""
    return [Vit]
