"""The predictor: what would the masked patches look like, given the visible ones?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_wb.contracts.masker import Grid, Mask
from ssl_wb.layers.initialise import initialise
from ssl_wb.layers.patches import gather_rows
from ssl_wb.layers.positions import sincos_2d
from ssl_wb.layers.transformer import Block
from ssl_wb.recipe.schema import PredictorSection

__all__ = ["Predictor"]


class Predictor(nn.Module):
    """Transformer over visible latents and mask tokens, each with its fixed 2-D position (METHODS D, decoder).

    Attention does not care for order, so visible and mask tokens are joined as they come and the masked ones are read
    off the end: the published un-shuffling and re-shuffling of the sequence cancel out.
    """

    def __init__(self, section: PredictorSection, latent_dim: int, prefix_tokens: int) -> None:
        super().__init__()
        self.dim = section.dim
        self.prefix_tokens = prefix_tokens
        self.embed = nn.Linear(latent_dim, section.dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, section.dim))
        self.blocks = nn.ModuleList(Block(section.dim, section.heads, section.mlp_ratio) for _ in range(section.depth))
        self.norm = nn.LayerNorm(section.dim, eps=1e-6)
        self._tables: dict[tuple[Grid, torch.device], Tensor] = {}
        self.apply(initialise)
        nn.init.normal_(self.mask_token, std=0.02)

    def _positions(self, grid: Grid, device: torch.device) -> Tensor:
        """Return the position table ``[1, N, Dd]``."""
        key = (grid, device)
        if key not in self._tables:
            self._tables[key] = sincos_2d(grid, self.dim)[None].to(device)
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
        asked = self.mask_token + gather_rows(positions, mask.masked)  # [B, Nm, Dd]
        tokens = torch.cat([prefix.to(visible.dtype), visible, asked.to(visible.dtype)], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens[:, -mask.masked.shape[1] :])
