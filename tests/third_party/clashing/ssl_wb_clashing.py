"""A masker whose name a bundled plugin has taken."""

from __future__ import annotations

from ssl_wb.api import Mask, Masker, MaskRequest, hookimpl, visible_count


class HalfRandom(Masker):
    """Masks half of the patches at random."""

    name = "random"

    def __call__(self, request: MaskRequest) -> tuple[Mask, ...]:
        """Return one mask; ``request.patches`` is ``[B, N, P]``."""
        cells = request.grid.cells
        return (Mask.from_scores(request.uniform(cells), visible_count(cells, 0.5)),)


@hookimpl
def ssl_wb_maskers() -> list[type[Masker]]:
    """Register the masker."""
    return [HalfRandom]
