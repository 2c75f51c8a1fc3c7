"""Structured patchout: whole rows and whole columns at once, for fine-tuning."""

from __future__ import annotations

import torch

from ssl_wb.api import Field, Mask, Masker, MaskRequest, PluginOptions, hookimpl, lines_masked, mask_of_lines


class StructuredOptions(PluginOptions):
    """Options of structured patchout."""

    ratio: float = Field(
        0.5,
        gt=0.0,
        lt=1.0,
        description="Share of rows masked plus share of columns masked; of all patches a little less, for they cross.",
    )


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
        # Not request.uniform: every process and every micro-batch has to draw the same number, or their counts differ.
        share = float(torch.rand((), generator=request.generator, device=device))
        rows, columns = lines_masked(grid, self.options.ratio, share)
        return (mask_of_lines(grid, rows, columns, request.uniform(grid.freq + grid.time)),)


@hookimpl
def ssl_wb_maskers() -> list[type[Masker]]:
    """Register structured patchout."""
    return [StructuredMasker]
