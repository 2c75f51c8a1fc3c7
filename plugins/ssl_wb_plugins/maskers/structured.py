"""Structured patchout: whole rows and whole columns at once, for fine-tuning."""

from __future__ import annotations

import torch

from ssl_wb.api import Field, Grid, Mask, Masker, MaskRequest, PluginOptions, hookimpl


class StructuredOptions(PluginOptions):
    """Options of structured patchout."""

    ratio: float = Field(
        0.5,
        gt=0.0,
        lt=1.0,
        description="Share of rows masked plus share of columns masked; of all patches a little less, for they cross.",
    )


def lines_masked(grid: Grid, ratio: float, share: float) -> tuple[int, int]:
    """Return how many frequency rows and time columns are masked.

    NF = min(F - 1, int(F * (r + 1/F) * U)), r' = max(r + 0.5/T - NF/F, 0), NT = int(T * r'); at most T - 1, and one
    line at least: the formula itself leaves nothing visible at a ratio close to 1, and nothing masked close to 0.

    Args:
        grid: the patch grid, F x T.
        ratio: r.
        share: U, 0 to 1: how much of the masking falls to the rows.
    """
    rows = min(grid.freq - 1, int(round((grid.freq * ratio + 1.0) * share, 9)))
    rest = max(ratio + 0.5 / grid.time - rows / grid.freq, 0.0)
    columns = min(grid.time - 1, int(round(grid.time * rest, 9)))
    if not (rows or columns) and grid.cells > 1:  # a low ratio on a small grid
        return (0, 1) if grid.time > 1 else (1, 0)
    return rows, columns


class StructuredMasker(Masker):
    """Masks whole frequency rows and whole time columns of patches.

    One uniform draw U per batch splits the ratio between NF rows and NT columns; which ones is drawn per clip.
    The count of masked patches is equal within a batch and differs between batches.
    """

    name = "structured"
    reference = "M2D, arXiv 2404.06095 (structured patchout in fine-tuning)"
    Options = StructuredOptions
    options: StructuredOptions

    def __call__(self, request: MaskRequest) -> tuple[Mask, ...]:
        """Return one mask; ``request.patches`` is ``[B, N, P]``."""
        grid, device = request.grid, request.patches.device
        # Not request.uniform: every process and every part of the batch has to draw the same number.
        share = float(torch.rand((), generator=request.generator, device=device))
        rows, columns = lines_masked(grid, self.options.ratio, share)
        noise = request.uniform(grid.freq + grid.time)  # [B, F + T]
        row_rank = noise[:, : grid.freq].argsort(dim=1).argsort(dim=1)  # [B, F]
        column_rank = noise[:, grid.freq :].argsort(dim=1).argsort(dim=1)  # [B, T]
        masked = ((row_rank < rows)[:, :, None] | (column_rank < columns)[:, None, :]).flatten(1)  # [B, N]
        return (Mask.from_scores(masked.float(), (grid.freq - rows) * (grid.time - columns)),)


@hookimpl
def ssl_wb_maskers() -> list[type[Masker]]:
    """Register structured patchout."""
    return [StructuredMasker]
