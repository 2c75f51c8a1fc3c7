"""Vision transformer (ViT) over spectrogram patches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.api import (
    Backbone,
    Block,
    Field,
    Grid,
    PluginOptions,
    Trunk,
    drop_path_scales,
    gather_rows,
    hookimpl,
    initialise,
    initialise_normal,
    initialise_trunc_normal,
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
    patch: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=lambda: [16, 16],
        min_length=2,
        max_length=2,
        description="Patch height in mels, width in frames.",
    )
    class_token: bool = Field(True, description="A learned token, without position, in front of the patches.")
    positions: Literal["fixed", "trainable"] = Field(
        "fixed",
        description="2-D sine-cosine positions, fixed, or trained from there (AudioMosaic); trained ones are cut or "
        "resampled for clips of another length.",
    )
    positions_first: Literal["time", "frequency"] = Field(
        "time", description="What the first half of a position codes: time (M2D, MSM-MAE, MATPAC) or frequency (EAT)."
    )
    patch_norm: bool = Field(False, description="LayerNorm after the patch projection (AudioMosaic).")
    norm: Literal["pre", "post"] = Field(
        "pre", description="LayerNorm before attention and MLP of a block, or after each residual sum (EAT)."
    )
    pre_norm: bool = Field(False, description="LayerNorm of all tokens before the first block (AudioMosaic, EAT).")
    final_norm: bool = Field(True, description="LayerNorm after the last block; AudioMosaic and EAT have none.")
    norm_eps: float = Field(1e-6, gt=0.0, description="Epsilon of every LayerNorm.")
    averaged_blocks: int = Field(
        1,
        ge=1,
        description="Latents are the mean over this many last blocks, each behind the final norm: 1 the last block "
        "alone, 3 in AudioMAE's released features.",
    )
    pool: Literal["patches", "class", "all"] = Field(
        "patches",
        description="Clip embedding in training: mean over the patches, the class token, or the mean over all tokens.",
    )
    pool_norm: bool = Field(False, description="LayerNorm of the clip embedding (AudioMosaic).")
    drop_path: float = Field(
        0.0, ge=0.0, lt=1.0, description="Stochastic depth: rate of the last block, rising linearly from 0."
    )
    init: Literal["xavier", "trunc-normal", "normal"] = Field(
        "xavier",
        description="Xavier-uniform matrices (MAE, M2D), truncated normal of deviation 0.02 (timm), or normal of "
        "deviation 0.02 in the blocks with a Xavier-uniform patch projection (EAT).",
    )
    class_token_std: float = Field(
        0.02, ge=0.0, description="Deviation of the class token's initial values; 1 in EAT's release."
    )
    key_bias: bool = Field(True, description="Keys have a bias; MSM-MAE's first release has none (BEiT).")
    attention: Literal["auto", "xformers", "sdpa"] = Field(
        "auto",
        description="What computes the attention in training, the predictor's too: xformers (CUDA, fp16 and bf16), "
        "torch's SDPA, or 'auto', xformers where it serves and SDPA elsewhere.",
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
        if self.averaged_blocks > self.shape.depth:
            raise ValueError(f"averaged_blocks {self.averaged_blocks} is more than the {self.shape.depth} blocks")
        if self.pool == "class" and not self.class_token:
            raise ValueError("pool = 'class' needs class_token = true")
        return self


def norm_or_not(dim: int, wanted: bool, eps: float) -> nn.Module:
    """Return a LayerNorm, or nothing."""
    return nn.LayerNorm(dim, eps=eps) if wanted else nn.Identity()


INITIALISERS = {"xavier": initialise, "trunc-normal": initialise_trunc_normal, "normal": initialise_normal}


class VitTrunk(Trunk):
    """The part after the embedding: optional norm, transformer blocks, optional norm."""

    def __init__(self, options: VitOptions) -> None:
        super().__init__()
        dim, depth, heads = options.shape
        self.init = INITIALISERS[options.init]
        self.averaged_blocks = options.averaged_blocks
        self.pre_norm = norm_or_not(dim, options.pre_norm, options.norm_eps)
        self.blocks = nn.ModuleList(
            Block(dim, heads, options.mlp_ratio, options.key_bias, options.norm, options.norm_eps) for _ in range(depth)
        )
        self.norm = norm_or_not(dim, options.final_norm, options.norm_eps)
        self.set_drop_path(options.drop_path)

    def set_drop_path(self, rate: float) -> None:
        """Set the rate of the last block; it rises linearly from 0."""
        # Early blocks are dropped least: all later ones build on them (Huang et al. 2016).
        depth = len(self.blocks)
        self.drop_rates = [rate * block / max(1, depth - 1) for block in range(depth)]

    def _blocks(self, tokens: Tensor, depth: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each block's output ``[B, K, D]`` and what its MLP added to get there ``[B, K, D]``."""
        scales = None  # [depth * 2, B, 1, 1]
        if self.training:
            # Two branches per block, attention and MLP; all are drawn at once, one call for the whole trunk.
            rates = [rate for rate in self.drop_rates for _ in range(2)]
            scales = drop_path_scales(rates, len(tokens), tokens.device)
        tokens = self.pre_norm(tokens)
        for number, block in enumerate(self.blocks[:depth]):
            assert isinstance(block, Block)
            tokens, added = block.parts(tokens, None if scales is None else scales[2 * number : 2 * number + 2])
            yield tokens, added

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, K, D]`` to latents ``[B, K, D]``."""
        last = len(self.blocks) - self.averaged_blocks  # blocks before those that are averaged
        total: Tensor | None = None  # [B, K, D], sum of the averaged blocks' normed outputs
        for number, (output, _) in enumerate(self._blocks(tokens)):  # [B, K, D]; the others are not kept
            if number >= last:
                normed = self.final_norm(output)
                total = normed if total is None else total + normed
        assert total is not None  # there is one block at least
        return total if self.averaged_blocks == 1 else total / self.averaged_blocks

    def layers(self, tokens: Tensor, depth: int | None = None) -> list[Tensor]:
        """Return the output ``[B, K, D]`` of each of the first ``depth`` blocks, not normed."""
        if depth is not None and depth > len(self.blocks):
            raise ValueError(f"block {depth} is asked for, and there are {len(self.blocks)}")
        return [output for output, _ in self._blocks(tokens, depth)]

    def final_norm(self, latents: Tensor) -> Tensor:
        """Apply the final norm to ``[B, K, D]``."""
        return self.norm(latents)

    def layers_and_mlp_outputs(self, tokens: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return each block's output, not normed, and what its MLP adds to its input, ``[B, K, D]`` each."""
        pairs = list(self._blocks(tokens))
        return [output for output, _ in pairs], [added for _, added in pairs]

    def reset_parameters(self) -> None:
        """Draw fresh weights."""
        self.apply(self.init)


class Vit(Backbone):
    """Vision transformer over spectrogram patches, with 2-D sine-cosine positions and a class token.

    As it stands the encoder of MSM-MAE, M2D and MATPAC: a linear projection of each patch, fixed positions added, a
    learned class token with no position in front, GELU MLPs, a final LayerNorm. Options make AudioMosaic's and EAT's.
    """

    name = "vit"
    reference = "Dosovitskiy et al. 2021, arXiv 2010.11929; positions of MAE, arXiv 2111.06377"
    Options = VitOptions
    options: VitOptions
    trunk: VitTrunk
    no_decay = frozenset({"position_table"})

    def __init__(self, options: VitOptions, n_mels: int, frames: int = 0) -> None:
        super().__init__(options, n_mels, frames)
        self.dim = options.shape.dim
        self.patch = (options.patch[0], options.patch[1])
        self.prefix_tokens = int(options.class_token)
        if n_mels < self.patch[0]:
            raise ValueError(f"a patch of {self.patch[0]} mels is higher than the {n_mels} mels of the front end")
        # The published convolution with a stride of its own size, as a linear map: masked patches are not computed.
        self.proj = nn.Linear(self.patch[0] * self.patch[1], self.dim)
        self.patch_norm = norm_or_not(self.dim, options.patch_norm, options.norm_eps)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.dim)) if options.class_token else None
        self.trunk = VitTrunk(options)
        self.pool_norm = norm_or_not(self.dim, options.pool_norm, options.norm_eps)
        # Tables of the grids met so far: they depend on the grid alone, and are not in the state dict.
        self._tables: dict[tuple[Grid, torch.device], Tensor] = {}
        bias = self.proj.bias.detach().clone()
        self.apply(self.trunk.init)
        if options.init == "normal":
            # EAT leaves the bias of its patch projection, a convolution there, as torch draws it.
            nn.init.xavier_uniform_(self.proj.weight)
            self.proj.bias.data.copy_(bias)
        if self.cls_token is not None:
            # After apply, which knows modules and not parameters. 0.02 as MAE, M2D and MATPAC; 1 as EAT.
            nn.init.normal_(self.cls_token, std=options.class_token_std)
        # Last, after all random weights: a table is computed and draws nothing.
        self.trained_grid = self.grid_of(frames)
        self.position_table = None
        if options.positions == "trainable":
            if not self.trained_grid.cells:
                raise ValueError(
                    f"positions = 'trainable' needs a training crop of a patch at least, not {frames} frames"
                )
            self.position_table = nn.Parameter(self._sincos(self.trained_grid))  # [1, N, D]

    @property
    def pooling(self) -> nn.Module:
        """Return the norm of the clip embedding."""
        return self.pool_norm

    def _sincos(self, grid: Grid) -> Tensor:
        """Return the sine-cosine table ``[1, N, D]`` of a grid."""
        return sincos_2d(grid, self.dim, self.options.positions_first)[None]

    def positions(self, grid: Grid, device: torch.device) -> Tensor:
        """Return the position table ``[1, N, D]`` of a grid."""
        if self.position_table is not None:
            return self._trained_positions(self.position_table, grid)
        key = (grid, device)
        if key not in self._tables:
            self._tables[key] = self._sincos(grid).to(device)
        return self._tables[key]

    def _trained_positions(self, table: Tensor, grid: Grid) -> Tensor:
        """Cut the trained table ``[1, N, D]`` to a shorter grid, or resample it to a longer one (bicubic, as M2D)."""
        if grid == self.trained_grid:
            return table
        # Only time changes: another number of frequency rows is another front end. A shorter grid is cut and not
        # resampled, so that a patch keeps its position.
        tiles = table.unflatten(1, self.trained_grid).permute(0, 3, 1, 2)  # [1, D, f, t]
        if grid.time > self.trained_grid.time:
            size = (self.trained_grid.freq, grid.time)
            tiles = F.interpolate(tiles.float(), size=size, mode="bicubic", align_corners=False)
        return tiles[..., : grid.time].permute(0, 2, 3, 1).flatten(1, 2)

    def embed(self, patches: Tensor, grid: Grid, indices: Tensor | None = None) -> Tensor:
        """Embed patches ``[B, N, P]`` at ``indices [B, K]`` as tokens ``[B, prefix + K, D]``."""
        positions = self.positions(grid, patches.device)
        if indices is not None:
            # Gathered before the projection: that of masked patches would be thrown away.
            patches = gather_rows(patches, indices)
            positions = gather_rows(positions, indices)
        tokens = self.patch_norm(self.proj(patches)) + positions  # [B, K, D]
        if self.cls_token is None:
            return tokens
        # The class token has no position: M2D's and MATPAC's tables have a row of zeros for it.
        return torch.cat([self.cls_token.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], dim=1)

    def pool(self, latents: Tensor) -> Tensor:
        """Pool latents ``[B, prefix + K, D]`` to one embedding per clip ``[B, D]``, as ``pool`` says."""
        if self.options.pool == "class":  # the options require a class token for it
            return self.pool_norm(latents[:, 0])
        patches = latents[:, self.prefix_tokens :] if self.options.pool == "patches" else latents
        return self.pool_norm(patches.mean(dim=1))


@hookimpl
def ssl_wb_backbones() -> list[type[Backbone]]:
    """Register the ViT."""
    return [Vit]
