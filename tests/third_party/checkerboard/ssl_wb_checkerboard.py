"""A whole plugin in one file: a masker that hides every other patch."""

from __future__ import annotations

import torch

from ssl_wb.api import Field, Mask, Masker, MaskRequest, PluginOptions, hookimpl


class CheckerboardOptions(PluginOptions):
    """Options of the checkerboard."""

    phase: int = Field(0, ge=0, le=1, description="Colour that is masked; 0 hides the patch at (0, 0).")


class Checkerboard(Masker):
    """Masks every other patch, as the squares of one colour on a chessboard.

    The patch at (f, t) is masked where (f + t) mod 2 equals the phase: half the patches, alike in all clips.
    """

    name = "checkerboard"
    Options = CheckerboardOptions
    options: CheckerboardOptions

    def __call__(self, request: MaskRequest) -> tuple[Mask, ...]:
        """Return one mask; ``request.patches`` is ``[B, N, P]``."""
        rows, device = request.patches.shape[0], request.patches.device
        frequency = torch.arange(request.grid.freq, device=device)[:, None]  # [F, 1]
        time = torch.arange(request.grid.time, device=device)[None, :]  # [1, T]
        hidden = ((frequency + time) % 2 == self.options.phase).flatten()  # [N], frequency-major
        visible = (~hidden).nonzero().T.expand(rows, -1)  # [B, Nv]
        masked = hidden.nonzero().T.expand(rows, -1)  # [B, Nm]
        return (Mask(visible.contiguous(), masked.contiguous()),)


@hookimpl
def ssl_wb_maskers() -> list[type[Masker]]:
    """Register the checkerboard."""
    return [Checkerboard]
