"""Uniform random masking."""

from __future__ import annotations

from ssl_wb.api import Field, Mask, Masker, MaskRequest, PluginOptions, hookimpl, visible_count


class RandomOptions(PluginOptions):
    """Options of random masking."""

    ratio: float = Field(0.7, gt=0.0, lt=1.0, description="Share of patches masked.")


class RandomMasker(Masker):
    """Masks patches uniformly at random: the ones with the largest of N uniform draws.

    Nv = int(N * (1 - ratio)) patches stay visible, the same count in every clip.
    """

    name = "random"
    reference = "MAE, arXiv 2111.06377, section 3; METHODS B.1"
    Options = RandomOptions
    options: RandomOptions

    def __call__(self, request: MaskRequest) -> tuple[Mask, ...]:
        """Return one mask; ``request.patches`` is ``[B, N, P]``."""
        noise = request.uniform(request.grid.cells)  # [B, N]
        return (Mask.from_scores(noise, visible_count(request.grid.cells, self.options.ratio)),)


@hookimpl
def ssl_wb_maskers() -> list[type[Masker]]:
    """Register the random masker."""
    return [RandomMasker]
