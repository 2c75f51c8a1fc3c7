"""Time and frequency masking: whole columns in one view, whole rows in the other (AudioMosaic, AudioMAE)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ssl_wb.api import Field, Grid, Mask, Masker, MaskRequest, PluginOptions, hookimpl, visible_count


class TimeFrequencyOptions(PluginOptions):
    """Options of time-frequency masking."""

    time_ratio: float = Field(0.6, ge=0.0, lt=1.0, description="Share of time columns masked.")
    freq_ratio: float = Field(0.4, ge=0.0, lt=1.0, description="Share of frequency rows masked.")
    pair: Literal["tf", "tt", "ff"] = Field(
        "tf", description="What the two views mask: time then frequency, both time, both frequency. Not for joint."
    )
    layout: Literal["paper", "released", "joint"] = Field(
        "paper",
        description="paper: whole columns or rows; released: the blocks and combs that AudioMosaic's code masks; "
        "joint: one view, which sees the crossings of the kept rows and columns (AudioMAE).",
    )


class TimeFrequencyMasker(Masker):
    """Masks whole time columns in one view of a clip and whole frequency rows in the other.

    A time view keeps int(T * (1 - time_ratio)) columns, a frequency view int(F * (1 - freq_ratio)) rows, drawn
    uniformly per clip. The published code took the grid's two sides for each other; layout = "released" does
    the same.
    """

    name = "time-frequency"
    reference = "AudioMosaic, arXiv 2605.14231; AudioMAE, arXiv 2207.06405"
    Options = TimeFrequencyOptions
    options: TimeFrequencyOptions

    def __init__(self, options: TimeFrequencyOptions) -> None:
        super().__init__(options)
        self.views = 1 if options.layout == "joint" else 2

    def __call__(self, request: MaskRequest) -> tuple[Mask, ...]:
        """Return one mask per view; ``request.patches`` is ``[B, N, P]``."""
        options, grid = self.options, request.grid
        if options.layout == "joint":
            return (self._joint(request),)
        time_line, freq_line = released_lines(grid) if options.layout == "released" else paper_lines(grid)  # [N] each
        # The released code reads F rows as the columns of its time branch, and T columns as the rows of the other.
        columns, rows = (grid.freq, grid.time) if options.layout == "released" else (grid.time, grid.freq)
        masks = []
        for branch in options.pair:
            line, lines, ratio = (
                (time_line, columns, options.time_ratio) if branch == "t" else (freq_line, rows, options.freq_ratio)
            )
            # A patch is masked where its line is. Views of different counts take a pass of the encoder each.
            masked = _draw_lines(request, lines, ratio)[:, line.to(request.patches.device)]  # [B, N]
            masks.append(Mask.from_scores(masked.float(), visible_count(lines, ratio) * (grid.cells // lines)))
        return tuple(masks)

    def _joint(self, request: MaskRequest) -> Mask:
        """Keep the crossings of kept rows and kept columns visible."""
        grid, options = request.grid, self.options
        rows = _draw_lines(request, grid.freq, options.freq_ratio)  # [B, F]
        columns = _draw_lines(request, grid.time, options.time_ratio)  # [B, T]
        masked = (rows[:, :, None] | columns[:, None, :]).flatten(1)  # [B, N]
        visible = visible_count(grid.freq, options.freq_ratio) * visible_count(grid.time, options.time_ratio)
        return Mask.from_scores(masked.float(), visible)


def _draw_lines(request: MaskRequest, lines: int, ratio: float) -> Tensor:
    """Draw which of ``lines`` rows or columns are masked in each clip, ``int(lines * (1 - ratio))`` are not.

    Returns:
        bool ``[B, lines]``.
    """
    order = request.uniform(lines).argsort(dim=1, stable=True)  # [B, lines]
    masked = torch.ones_like(order, dtype=torch.bool)
    return masked.scatter_(1, order[:, : visible_count(lines, ratio)], False)


def paper_lines(grid: Grid) -> tuple[Tensor, Tensor]:
    """Return the time column and the frequency row of every patch, int64 ``[N]`` each."""
    cell = torch.arange(grid.cells)
    return cell % grid.time, cell // grid.time


def released_lines(grid: Grid) -> tuple[Tensor, Tensor]:
    """Return what AudioMosaic's code takes for the time column and the frequency row of a patch, int64 ``[N]`` each.

    Its patches are time-major, i = t * F + f, and it reads them as F "columns" of T: column i // T, row i % T. A
    "column" is thus a run of T patches, T / F consecutive time columns; a "row" a comb with F teeth.
    """
    time, freq = paper_lines(grid)
    index = time * grid.freq + freq
    return index // grid.time, index % grid.time


@hookimpl
def ssl_wb_maskers() -> list[type[Masker]]:
    """Register time-frequency masking."""
    return [TimeFrequencyMasker]
