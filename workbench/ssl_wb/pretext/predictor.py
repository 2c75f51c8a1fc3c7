"""Predictors: features of the masked patches from latents of the visible ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.layers.initialise import initialise
from ssl_wb.layers.noise import normal_noise
from ssl_wb.layers.patches import gather_rows
from ssl_wb.layers.positions import sincos_2d, sinusoid_1d
from ssl_wb.layers.transformer import Block
from ssl_wb.plugin.masker import Grid, Mask
from ssl_wb.recipe.schema import PredictorSection

__all__ = ["ConvPredictor", "Predictor", "build_predictor"]

#: Deviation of the noise that takes the place of mask tokens (EAT's release, `mask_noise_std`).
MASK_NOISE_STD = 0.01


class _MaskTokens(nn.Module):
    """Base of the predictors: what stands at masked places, and the initial weights."""

    mask_token: nn.Parameter | None

    def __init__(self, section: PredictorSection) -> None:
        super().__init__()
        self.dim = section.dim
        self.section = section

    def _initialise(self) -> None:
        """Draw the weights, once the modules are there."""
        if self.section.init == "xavier":
            self.apply(initialise)
        if self.mask_token is not None:
            nn.init.normal_(self.mask_token, std=0.02)

    def _new_mask_token(self) -> nn.Parameter | None:
        """Return the learned token ``[1, 1, Dd]``, where there is one."""
        return nn.Parameter(torch.zeros(1, 1, self.dim)) if self.section.mask_token == "learned" else None

    def _at_masked_places(self, rows: int, count: int, device: torch.device) -> Tensor:
        """Return what stands at ``count`` masked places of ``rows`` clips: float32, to be broadcast to [B, Nm, Dd]."""
        if self.mask_token is not None:
            return self.mask_token
        if self.section.mask_token == "noise":
            return MASK_NOISE_STD * normal_noise(rows, count, self.dim, device=device)
        return torch.zeros(1, 1, self.dim, device=device)


class Predictor(_MaskTokens):
    """Transformer over visible latents and mask tokens, each with its fixed 2-D position.

    Attention does not depend on the order of tokens: positions are added to them. So visible tokens and mask tokens are
    concatenated, and the outputs of the mask tokens are the last ones. The published code sorts the tokens by patch
    before the blocks and selects the masked ones afterwards, which computes the same.
    """

    def __init__(self, section: PredictorSection, latent_dim: int, prefix_tokens: int) -> None:
        super().__init__(section)
        self.prefix_tokens = prefix_tokens
        self.embed = nn.Linear(latent_dim, section.dim)
        self.mask_token = self._new_mask_token()
        self.blocks = nn.ModuleList(Block(section.dim, section.heads, section.mlp_ratio) for _ in range(section.depth))
        self.norm = nn.LayerNorm(section.dim, eps=1e-6)
        self._tables: dict[tuple[Grid, torch.device], Tensor] = {}
        self._initialise()

    def _positions(self, grid: Grid, device: torch.device) -> Tensor:
        """Return the position table ``[1, N, Dd]``."""
        key = (grid, device)
        if key not in self._tables:
            flat = self.section.positions == "1-d"
            table = sinusoid_1d(grid.cells, self.dim) if flat else sincos_2d(grid, self.dim)
            self._tables[key] = table[None].to(device)
        return self._tables[key]

    def forward(self, latents: Tensor, mask: Mask, grid: Grid) -> Tensor:
        """Predict features of the masked patches.

        Args:
            latents: ``[B, prefix + Nv, D]`` of the student; prefix tokens have no position.
            mask: which patches they are and which to predict.
            grid: the patch grid.

        Returns:
            ``[B, Nm, Dd]`` after the final norm, in the order of ``mask.masked``.
        """
        positions = self._positions(grid, latents.device)
        known = self.embed(latents)  # [B, prefix + Nv, Dd]
        prefix, visible = known[:, : self.prefix_tokens], known[:, self.prefix_tokens :]
        visible = visible + gather_rows(positions, mask.visible)
        rows, count = mask.masked.shape
        mask_tokens = self._at_masked_places(rows, count, latents.device) + gather_rows(positions, mask.masked)
        tokens = torch.cat([prefix.to(visible.dtype), visible, mask_tokens.to(visible.dtype)], dim=1)
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        # Outputs of the last block at visible positions are not used: only their keys and values are computed.
        return self.norm(self.blocks[-1](tokens, last=mask.masked.shape[1]))


class _ConvBlock(nn.Module):
    """Grouped 3 x 3 convolution over the grid, LayerNorm over channels without weights, GELU, added to its input."""

    def __init__(self, dim: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=groups)

    def forward(self, tiles: Tensor) -> Tensor:
        """Map ``[B, Dd, f, t]`` to ``[B, Dd, f, t]``."""
        mixed = self.conv(tiles).movedim(1, -1)  # [B, f, t, Dd]
        mixed = F.layer_norm(mixed, mixed.shape[-1:], eps=1e-5)
        return tiles + F.gelu(mixed).movedim(-1, 1)


class ConvPredictor(_MaskTokens):
    """Convolutions over the patch grid, mask tokens at the masked patches (EAT).

    The grid gives the positions, so none are added; prefix tokens are left out.
    """

    def __init__(self, section: PredictorSection, latent_dim: int, prefix_tokens: int) -> None:
        super().__init__(section)
        self.prefix_tokens = prefix_tokens
        self.embed = nn.Linear(latent_dim, section.dim) if latent_dim != section.dim else nn.Identity()
        self.mask_token = self._new_mask_token()
        self.blocks = nn.ModuleList(_ConvBlock(section.dim, section.heads) for _ in range(section.depth))
        self._initialise()

    def forward(self, latents: Tensor, mask: Mask, grid: Grid) -> Tensor:
        """Predict features of the masked patches.

        Args:
            latents: ``[B, prefix + Nv, D]`` of the student.
            mask: which patches they are and which to predict.
            grid: the patch grid.

        Returns:
            ``[B, Nm, Dd]`` in the order of ``mask.masked``.
        """
        known = self.embed(latents[:, self.prefix_tokens :])  # [B, Nv, Dd]
        batch, count = mask.masked.shape
        hidden = self._at_masked_places(batch, count, latents.device).to(known.dtype)
        hidden = hidden.expand(batch, count, -1)  # [B, Nm, Dd]
        order = torch.cat([mask.visible, mask.masked], dim=1)[:, :, None].expand(-1, -1, self.dim)  # [B, N, Dd]
        rows = torch.empty_like(order, dtype=known.dtype).scatter(1, order, torch.cat([known, hidden], dim=1))
        tiles = rows.unflatten(1, grid).movedim(-1, 1)  # [B, Dd, f, t]
        for block in self.blocks:
            tiles = block(tiles)
        return gather_rows(tiles.flatten(2).transpose(1, 2), mask.masked)


def build_predictor(section: PredictorSection, latent_dim: int, prefix_tokens: int) -> Predictor | ConvPredictor:
    """Build the predictor of a recipe.

    Args:
        section: the recipe's predictor.
        latent_dim: ``D``, width of the student's latents.
        prefix_tokens: tokens in front of the patches.
    """
    kind = Predictor if section.name == "transformer" else ConvPredictor
    return kind(section, latent_dim, prefix_tokens)
