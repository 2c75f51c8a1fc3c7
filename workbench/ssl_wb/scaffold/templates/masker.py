"""A masker: which patches the student sees."""

from __future__ import annotations

from ssl_wb.api import Field, Mask, Masker, MaskRequest, PluginOptions, hookimpl, visible_count


class NewPluginOptions(PluginOptions):
    """Options: every one has bounds and a description."""

    ratio: float = Field(0.7, gt=0.0, lt=1.0, description="Share of patches masked.")


class NewPlugin(Masker):
    """Masks patches uniformly at random: the ones with the largest scores.

    Replace the scores by your idea. All clips keep the same number of visible patches.
    """

    name = "new-plugin"
    reference = ""
    Options = NewPluginOptions
    options: NewPluginOptions

    def __call__(self, request: MaskRequest) -> tuple[Mask, ...]:
        """Return one mask; ``request.patches`` is ``[B, N, P]``."""
        cells = request.grid.cells
        # request.uniform is the source of randomness: masks then do not depend on the number of processes.
        scores = request.uniform(cells)  # [B, N]
        return (Mask.from_scores(scores, visible_count(cells, self.options.ratio)),)


@hookimpl
def ssl_wb_maskers() -> list[type[Masker]]:
    """Offer this masker."""
    return [NewPlugin]
