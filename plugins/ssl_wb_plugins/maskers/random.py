"""Uniform random masking (MAE)."""

from __future__ import annotations

from ssl_wb.api import Count, Field, Mask, Masker, MaskRequest, PluginOptions, hookimpl, visible_count


class RandomOptions(PluginOptions):
    """Options of random masking."""

    ratio: float = Field(0.7, gt=0.0, lt=1.0, description="Share of patches masked.")
    count: Count = "exact"
    views: int = Field(1, ge=1, le=64, description="Masks per clip.")


class RandomMasker(Masker):
    """Masks patches uniformly at random: the ones with the largest of N uniform draws.

    Nv = int(N * (1 - ratio)) patches stay visible, the same count in every clip.
    """

    name = "random"
    reference = "MAE, arXiv 2111.06377, section 3"
    Options = RandomOptions
    options: RandomOptions

    def __init__(self, options: RandomOptions) -> None:
        super().__init__(options)
        self.views = options.views

    def __call__(self, request: MaskRequest) -> tuple[Mask, ...]:
        """Return one mask per view; ``request.patches`` is ``[B, N, P]``."""
        cells = request.grid.cells
        visible = visible_count(cells, self.options.ratio, self.options.count)
        # Sorting noise draws without replacement, for all clips at once and with the same count in each.
        noise = request.uniform(self.views, cells)  # [B, views, N]
        return tuple(Mask.from_scores(one, visible) for one in noise.unbind(dim=1))


@hookimpl
def ssl_wb_maskers() -> list[type[Masker]]:
    """Register the random masker."""
    return [RandomMasker]
