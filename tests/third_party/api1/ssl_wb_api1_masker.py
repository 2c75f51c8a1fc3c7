"""A masker that hides what the teacher finds new in a clip."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_wb.api import (
    Field,
    Grid,
    HintOptions,
    Latents,
    Mask,
    Masker,
    MaskRequest,
    exchange_hints,
    field_validator,
    gather_rows,
    highest_cells,
    hookimpl,
    visible_count,
)

API_VERSION = 1


class NoveltyOptions(HintOptions):
    """Options of the masker."""

    ratio: float = Field(0.6, gt=0.0, lt=1.0, description="Share of patches masked.")
    layer: int | None = Field(None, ge=1, description="Block whose latents are compared; the last one unless given.")
    views: int = Field(1, ge=1, description="Masks per clip; all but the first are random.")

    @field_validator("ratio")
    @classmethod
    def _not_everything(cls, value: float) -> float:
        if value > 0.95:
            raise ValueError("more than 0.95 leaves too little to see")
        return value


class Novelty(Masker):
    """Masks the patches that differ most from the patch before them.

    The difference is one minus the cosine of the teacher's latents; the first column counts as no difference.
    """

    name = "api1-novelty"
    reference = "made up"
    Options = NoveltyOptions
    options: NoveltyOptions
    needs_latents = True

    def __init__(self, options: NoveltyOptions) -> None:
        super().__init__(options)
        self.latents_from = "teacher"
        self.views = options.views

    def __call__(self, request: MaskRequest) -> tuple[Mask, ...]:
        """Return one mask per view; ``request.patches`` is ``[B, N, P]``."""
        cells = request.grid.cells
        visible = visible_count(cells, self.options.ratio)
        informed = exchange_hints(
            request,
            highest_cells(self.importance(request), cells - visible, request.uniform(cells)),
            self.options.hint_ratio(request.progress),
            masked=cells - visible,
        )
        assert gather_rows(request.patches, informed.visible).shape[1] == visible
        others = (Mask.from_scores(request.uniform(cells), visible) for _ in range(self.views - 1))
        return (informed, *others)

    def importance(self, request: MaskRequest) -> Tensor:
        """Return the difference to the patch before, ``[B, N]``."""
        assert request.latents is not None
        return self._differences(request.latents, request.grid)

    def _differences(self, latents: Latents, grid: Grid) -> Tensor:
        tiles = latents(self.options.layer).unflatten(1, (grid.freq, grid.time))  # [B, F, T, D]
        near = torch.cosine_similarity(tiles[:, :, 1:], tiles[:, :, :-1], dim=-1)  # [B, F, T - 1]
        return torch.nn.functional.pad(1.0 - near, (1, 0)).flatten(1)


@hookimpl
def ssl_wb_maskers() -> list[type[Masker]]:
    """Register the masker."""
    return [Novelty]
