"""Requests and readings of masks for the tests of maskers."""

from __future__ import annotations

import torch

from ssl_wb.api import Grid, Mask, Masker, MaskRequest


def request(
    patches: torch.Tensor, grid: Grid, seed: int = 0, *, progress: float = 0.0, first: int = 0, rows: int | None = None
) -> MaskRequest:
    """Ask for masks of the clips ``first`` .. ``first + rows`` of ``patches`` ``[B, N, P]``."""
    rows = len(patches) if rows is None else rows
    share = patches[first : first + rows]
    return MaskRequest(
        patches=share,
        grid=grid,
        progress=progress,
        generator=torch.Generator().manual_seed(seed),
        first_row=first,
        global_rows=len(patches),
        latents=lambda layer=None: share,  # pixels stand in: any vectors of the patches can be clustered
    )


def silent(masker: Masker, rows: int, grid: Grid, seed: int = 0) -> tuple[Mask, ...]:
    """Draw masks of ``rows`` silent clips."""
    return masker(request(torch.zeros(rows, grid.cells, 1), grid, seed))


def visible_map(mask: Mask, grid: Grid) -> torch.Tensor:
    """Return the mask as bool ``[B, F, T]``, True where visible."""
    cells = torch.zeros(mask.visible.shape[0], grid.cells, dtype=torch.bool)
    return cells.scatter_(1, mask.visible, True).view(-1, *grid)
