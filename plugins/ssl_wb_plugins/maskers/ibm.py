"""Inverse block masking: whole blocks stay visible, what lies around them is masked (data2vec 2.0, EAT)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ssl_wb.api import Count, Field, Mask, Masker, MaskRequest, PluginOptions, hookimpl, visible_count


class IbmOptions(PluginOptions):
    """Options of inverse block masking."""

    ratio: float = Field(0.7, gt=0.0, lt=1.0, description="Share of patches masked.")
    count: Count = "exact"
    block: int = Field(5, ge=1, description="Side m of a visible block, in patches.")
    adjust: float = Field(
        0.07, ge=0.0, le=1.0, description="Added to the visible share when counting blocks, against their overlap."
    )
    grow: Literal["scatter", "adjacent"] = Field(
        "scatter",
        description="Where blocks leave too few patches visible, the others are drawn from the whole grid (scatter) or "
        "from around the blocks (adjacent).",
    )
    views: int = Field(1, ge=1, le=64, description="Masks per clip.")


class IbmMasker(Masker):
    """Leaves square blocks of patches visible and masks what lies around them.

    n = int(N * (1 - ratio + adjust) / m^2) centres, drawn with replacement, paint m x m blocks, cut at the border; then
    uniform picks among the painted (or unpainted) patches bring the visible ones to exactly int(N * (1 - ratio)).
    """

    name = "ibm"
    reference = "data2vec 2.0, arXiv 2212.07525; EAT, arXiv 2401.03497"
    Options = IbmOptions
    options: IbmOptions

    def __init__(self, options: IbmOptions) -> None:
        super().__init__(options)
        self.views = options.views

    def __call__(self, request: MaskRequest) -> tuple[Mask, ...]:
        """Return one mask per view; ``request.patches`` is ``[B, N, P]``."""
        return tuple(self._draw(request) for _ in range(self.views))

    def _draw(self, request: MaskRequest) -> Mask:
        """Draw the mask of one view."""
        cells = request.grid.cells
        distance = self._distance(request)  # [B, N]
        if self.options.grow == "scatter":
            distance = distance.clamp(max=1)
        # Painted patches come first, at random among themselves, then the unpainted ones: whether there are too many
        # of the former or too few, the count is exact and what is left over or filled up is chosen uniformly.
        # Float64: a float32 draw loses digits next to a distance, and equal sums would favour low indices.
        return Mask.from_scores(
            distance.double() + request.uniform(cells), visible_count(cells, self.options.ratio, self.options.count)
        )

    def _distance(self, request: MaskRequest) -> Tensor:
        """Paint the blocks, and count the steps between 4-neighbours from each patch to the next block.

        Returns:
            int64 ``[B, N]``; 0 on painted patches.
        """
        grid, block = request.grid, self.options.block
        share = 1.0 - self.options.ratio + self.options.adjust
        exact = grid.cells * share / block**2
        # Rounded before it is cut unless the released code's count is asked for, so that 1.9999999999 counts as 2.
        count = int(exact if self.options.count == "published" else round(exact, 9))
        if count == 0:
            side = int((grid.cells * share) ** 0.5)
            raise ValueError(
                f"a block of {block} x {block} patches is more than stays visible of a {grid.freq} x {grid.time} grid, "
                f"and masks would be random; block may be at most {side} here"
            )
        # With replacement, as published: equal centres paint one block. The clamp is for a draw that rounds up to N.
        centres = (request.uniform(count) * grid.cells).long().clamp_(max=grid.cells - 1)  # [B, n]
        rows = torch.arange(grid.freq, device=centres.device)  # [F]
        columns = torch.arange(grid.time, device=centres.device)  # [T]
        distance = torch.full((centres.shape[0], *grid), grid.freq + grid.time, device=centres.device)  # [B, F, T]
        for centre in centres.unbind(dim=1):  # [B]; a loop over the few blocks: all at once would take [B, n, F, T]
            up = _outside(rows - (centre // grid.time)[:, None], block)  # [B, F]
            along = _outside(columns - (centre % grid.time)[:, None], block)  # [B, T]
            distance = torch.minimum(distance, up[:, :, None] + along[:, None, :])
        return distance.flatten(1)


def _outside(offset: Tensor, block: int) -> Tensor:
    """Return how far an offset from a block's centre reaches beyond the block, 0 within; any shape.

    A block of side m covers the offsets -(m // 2) .. m - 1 - m // 2.
    """
    low = block // 2
    return torch.maximum(-low - offset, offset - (block - 1 - low)).clamp_min(0)


@hookimpl
def ssl_wb_maskers() -> list[type[Masker]]:
    """Register inverse block masking."""
    return [IbmMasker]
