"""Structured patchout: whole rows and whole columns of the patch grid left out (M2D, arXiv 2404.06095)."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_wb.plugin.masker import Grid, Mask, visible_count

__all__ = ["column_patchout", "lines_masked", "mask_of_lines", "structured_patchout", "two_way_patchout"]


def lines_masked(grid: Grid, ratio: float, share: float) -> tuple[int, int]:
    """Return how many frequency rows and time columns structured patchout masks.

    NF = min(F - 1, int(F * (r + 1/F) * U)), r' = max(r + 0.5/T - NF/F, 0), NT = int(T * r'); at most T - 1, and one
    line at least: the formula itself leaves nothing visible at a ratio close to 1, and nothing masked close to 0.

    Args:
        grid: the patch grid, F x T.
        ratio: r.
        share: U, 0 to 1: how much of the masking falls to the rows.
    """
    rows = min(grid.freq - 1, int(round((grid.freq * ratio + 1.0) * share, 9)))  # 0.29 * 100 is a little below 29
    rest = max(ratio + 0.5 / grid.time - rows / grid.freq, 0.0)
    columns = min(grid.time - 1, int(round(grid.time * rest, 9)))
    if not (rows or columns) and grid.cells > 1:  # a low ratio on a small grid
        return (0, 1) if grid.time > 1 else (1, 0)
    return rows, columns


def mask_of_lines(grid: Grid, rows: int, columns: int, scores: Tensor) -> Mask:
    """Mask whole rows and whole columns: those of the lowest scores among the clip's rows and columns.

    A patch is visible where a visible row and a visible column cross, so the count is the same in every clip.

    Args:
        grid: the patch grid, F x T.
        rows: rows masked, below F.
        columns: columns masked, below T.
        scores: float ``[B, F + T]``, of the rows and then of the columns.
    """
    row_rank = scores[:, : grid.freq].argsort(dim=1).argsort(dim=1)  # [B, F]
    column_rank = scores[:, grid.freq :].argsort(dim=1).argsort(dim=1)  # [B, T]
    masked = ((row_rank < rows)[:, :, None] | (column_rank < columns)[:, None, :]).flatten(1)  # [B, N]
    return Mask.from_scores(masked.float(), (grid.freq - rows) * (grid.time - columns))


def structured_patchout(grid: Grid, sound: Tensor, ratio: float, generator: torch.Generator) -> Tensor:
    """Choose the patches that structured patchout keeps; the masker ``structured`` where every column has sound.

    Args:
        grid: the patch grid, F x T.
        sound: float ``[B, T]``, 1 for columns with sound; columns of padding (0) are left out first, so that a clip
            shorter than the others keeps some of its sound.
        ratio: fraction of rows plus fraction of columns left out.
        generator: on the device of ``sound``.

    Returns:
        int64 ``[B, K]``, sorted.
    """
    share = float(torch.rand((), generator=generator, device=sound.device))
    rows, columns = lines_masked(grid, ratio, share)
    noise = torch.rand(len(sound), grid.freq + grid.time, generator=generator, device=sound.device)
    noise[:, grid.freq :] += sound
    return mask_of_lines(grid, rows, columns, noise).visible


def two_way_patchout(grid: Grid, sound: Tensor, columns: float, rows: float, generator: torch.Generator) -> Tensor:
    """Choose the patches that are kept if shares of columns and of rows are left out (AudioMAE's 2-D masking).

    int(T * (1 - columns)) columns and int(F * (1 - rows)) rows stay, one of each at least.

    Args:
        grid: the patch grid, F x T.
        sound: float ``[B, T]``, as in :func:`structured_patchout`.
        columns: share of columns left out.
        rows: share of rows left out.
        generator: on the device of ``sound``.

    Returns:
        int64 ``[B, K]``, sorted.
    """
    noise = torch.rand(len(sound), grid.freq + grid.time, generator=generator, device=sound.device)
    noise[:, grid.freq :] += sound
    kept_rows, kept_columns = max(1, visible_count(grid.freq, rows)), max(1, visible_count(grid.time, columns))
    return mask_of_lines(grid, grid.freq - kept_rows, grid.time - kept_columns, noise).visible


def column_patchout(grid: Grid, sound: Tensor, ratio: float, generator: torch.Generator) -> Tensor:
    """Choose the patches that are kept if whole columns are left out; arguments as :func:`structured_patchout`."""
    noise = torch.rand(sound.shape, generator=generator, device=sound.device) - sound  # [B, T], sound first
    kept = max(1, visible_count(grid.time, ratio))
    times = noise.argsort(dim=1)[:, :kept].sort(dim=1).values  # [B, k]
    lines = torch.arange(grid.freq, device=times.device) * grid.time  # first patch of each row: frequency-major
    return (lines[:, None] + times[:, None, :]).flatten(1)  # [B, F * k]
