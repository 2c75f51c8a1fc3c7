"""BEATs' transformer: positions by a convolution over the tokens and a gated bias of their distance."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.api import Backbone, Field, Grid, PluginOptions, Trunk, UsageError, attention, hookimpl, model_validator


class BeatsOptions(PluginOptions):
    """Options of BEATs' backbone; the defaults are the sizes of the released base model."""

    dim: int = Field(768, ge=8, description="Width; a multiple of heads and of conv_groups.")
    depth: int = Field(12, ge=1, description="Blocks.")
    heads: int = Field(12, ge=1, description="Attention heads.")
    hidden: int = Field(3072, ge=1, description="Hidden width of the MLP.")
    patch_dim: int = Field(512, ge=1, description="Width of the patch projection, before the map to the width.")
    patch: int = Field(16, ge=1, description="Patch height in mels and width in frames.")
    conv_kernel: int = Field(128, ge=1, description="Tokens that the convolutional position embedding spans.")
    conv_groups: int = Field(16, ge=1, description="Groups of that convolution.")
    buckets: int = Field(320, ge=4, description="Classes of distance between tokens, half of them for each direction.")
    max_distance: int = Field(800, ge=1, description="Distance from which on all tokens share the last class.")
    deep_norm: bool = Field(True, description="Multiply residual paths by (2 * depth) ** 0.25 (DeepNorm).")

    @model_validator(mode="after")
    def _consistent(self) -> BeatsOptions:
        if self.dim % self.heads or self.dim % self.conv_groups:
            raise ValueError(f"dim {self.dim} must be a multiple of heads and of conv_groups")
        if self.max_distance <= self.buckets // 4:
            raise ValueError(f"max_distance {self.max_distance} must be above a quarter of buckets ({self.buckets})")
        return self


def distance_classes(count: int, buckets: int, max_distance: int, device: torch.device) -> Tensor:
    """Return the class of the distance between any two of ``count`` tokens, int64 ``[count, count]`` (query, key).

    Half of the classes are for keys after the query. Near distances have a class each, farther ones share classes that
    widen logarithmically (T5, Raffel et al. 2020).
    """
    place = torch.arange(count, device=device)
    offset = place[None, :] - place[:, None]  # [K, K], key minus query
    half = buckets // 2
    exact = half // 2
    size = offset.abs()
    # Clamped: the logarithm of distance 0 is not used, and must not be infinite.
    far = (size.clamp(min=1).float() / exact).log() / math.log(max_distance / exact) * (half - exact)
    wide = (exact + far.long()).clamp(max=half - 1)
    return (offset > 0).long() * half + torch.where(size < exact, size, wide)


class BeatsBlock(nn.Module):
    """Attention with a gated distance bias and an MLP, each followed by a LayerNorm of the residual sum."""

    def __init__(self, options: BeatsOptions) -> None:
        super().__init__()
        dim, self.heads = options.dim, options.heads
        self.residual = (2.0 * options.depth) ** 0.25 if options.deep_norm else 1.0
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.gate = nn.Linear(dim // self.heads, 8)  # shared by the heads
        self.gate_scale = nn.Parameter(torch.ones(1, self.heads, 1, 1))
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.fc1 = nn.Linear(dim, options.hidden)
        self.fc2 = nn.Linear(options.hidden, dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """Map tokens ``[B, K, D]`` to ``[B, K, D]``; ``bias`` is that of their distances, ``[1, heads, K, K]``."""
        batch, count, dim = tokens.shape
        shape = (batch, count, self.heads, dim // self.heads)
        query, key, value = (
            part(tokens).view(shape).transpose(1, 2) for part in (self.query, self.key, self.value)
        )  # [B, heads, K, d] each
        # The gate reads the query with its bias and before scaling: two sigmoids of four summed features each.
        sums = self.gate(query).unflatten(-1, (2, 4)).sum(dim=-1)  # [B, heads, K, 2]
        first, second = sums.sigmoid().split(1, dim=-1)  # [B, heads, K, 1] each
        gate = first * (second * self.gate_scale - 1.0) + 2.0  # [B, heads, K, 1]
        mixed = attention(query, key, value, gate * bias).transpose(1, 2).flatten(2)  # [B, K, D]
        tokens = self.norm1(self.residual * tokens + self.out(mixed))
        return self.norm2(self.residual * tokens + self.fc2(F.gelu(self.fc1(tokens))))


class BeatsTrunk(Trunk):
    """Convolutional positions, a LayerNorm and the blocks, over the tokens of whole clips.

    Tokens come frequency-major, as everywhere here; BEATs counts them time-major, which convolution and distances
    depend on, so they are reordered inside.
    """

    def __init__(self, options: BeatsOptions, rows: int) -> None:
        super().__init__()
        self.options, self.rows = options, rows
        kernel = options.conv_kernel
        self.conv = nn.Conv1d(options.dim, options.dim, kernel, padding=kernel // 2, groups=options.conv_groups)
        self.norm = nn.LayerNorm(options.dim, eps=1e-5)
        self.distance_bias = nn.Embedding(options.buckets, options.heads)  # one table for all blocks
        self.blocks = nn.ModuleList(BeatsBlock(options) for _ in range(options.depth))

    def _blocks(self, tokens: Tensor, depth: int | None = None) -> Iterator[Tensor]:
        """Yield the output of each block, ``[B, K, D]``, frequency-major."""
        count = tokens.shape[1]
        if count % self.rows:
            raise UsageError(
                f"beats reads whole clips of {self.rows} rows of patches, and got {count} tokens",
                hint="BEATs' positions need every patch: for masked encoding take the backbone vit",
            )
        tokens = tokens.unflatten(1, (self.rows, -1)).transpose(1, 2).flatten(1, 2)  # [B, t * f, D]
        positions = self.conv(tokens.transpose(1, 2))[..., :count]  # [B, D, K]; an even kernel gives one too many
        tokens = self.norm(tokens + F.gelu(positions).transpose(1, 2))
        classes = distance_classes(count, self.options.buckets, self.options.max_distance, tokens.device)  # [K, K]
        bias = self.distance_bias(classes).permute(2, 0, 1)[None]  # [1, heads, K, K]
        for block in self.blocks[:depth]:
            tokens = block(tokens, bias)
            yield tokens.unflatten(1, (-1, self.rows)).transpose(1, 2).flatten(1, 2)  # [B, f * t, D]

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, K, D]`` to latents ``[B, K, D]``."""
        for output in self._blocks(tokens):  # [B, K, D]; only the last is kept
            latents = output
        return latents

    def layers(self, tokens: Tensor, depth: int | None = None) -> list[Tensor]:
        """Return the output ``[B, K, D]`` of each of the first ``depth`` blocks."""
        if depth is not None and depth > len(self.blocks):
            raise ValueError(f"block {depth} is asked for, and there are {len(self.blocks)}")
        return list(self._blocks(tokens, depth))


class Beats(Backbone):
    """The encoder of BEATs, for imported files: post-norm blocks with DeepNorm residuals and a relative position bias.

    Patches are projected without bias, normed and mapped to the width; there is no class token, no position table and
    no final norm. A grouped convolution over the time-major tokens gives positions, and a bias of the tokens' distance,
    gated by the query, is added in every block's attention. Both need all patches of a clip in order: masked encoding,
    and so pre-training with a masker, is refused; frozen use and fine-tuning work.
    """

    name = "beats"
    reference = "BEATs, Chen et al. 2023, arXiv 2212.09058; gate of WavLM, arXiv 2110.13900, eq. 2-4"
    Options = BeatsOptions
    options: BeatsOptions
    prefix_tokens = 0

    def __init__(self, options: BeatsOptions, n_mels: int, frames: int = 0) -> None:
        super().__init__(options, n_mels, frames)
        self.dim = options.dim
        self.patch = (options.patch, options.patch)
        if n_mels < options.patch:
            raise ValueError(f"a patch of {options.patch} mels is higher than the {n_mels} mels of the front end")
        self.proj = nn.Linear(options.patch**2, options.patch_dim, bias=False)
        self.patch_norm = nn.LayerNorm(options.patch_dim, eps=1e-5)
        # BEATs leaves the map out where both widths are equal.
        same = options.patch_dim == options.dim
        self.widen = nn.Identity() if same else nn.Linear(options.patch_dim, options.dim)
        self.trunk = BeatsTrunk(options, n_mels // options.patch)

    def embed(self, patches: Tensor, grid: Grid, indices: Tensor | None = None) -> Tensor:
        """Embed all patches ``[B, N, P]`` as tokens ``[B, N, D]``.

        Raises:
            UsageError: only some of the patches are asked for.
        """
        if indices is not None and indices.shape[1] != grid.cells:
            raise UsageError(
                "beats cannot encode a part of a clip's patches: its positions follow from all of them",
                hint="for masked encoding and pre-training take the backbone vit",
            )
        return self.widen(self.patch_norm(self.proj(patches)))


@hookimpl
def ssl_wb_backbones() -> list[type[Backbone]]:
    """Register BEATs' backbone."""
    return [Beats]
