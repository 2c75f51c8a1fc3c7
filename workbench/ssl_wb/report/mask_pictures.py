"""Pictures of masks over spectrograms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.errors import UsageError
from ssl_wb.report.masks import MaskPreview, MaskRow, MaskView
from ssl_wb.report.picture_files import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_preview"]

#: Layout in inches: the picture, its margins, the gap between panels, headings, and the axis below the last row.
WIDTH = 9.0
LEFT, RIGHT, TOP, BOTTOM, NOTE = 0.46, 0.1, 0.52, 0.34, 0.16
GAP, TITLE, ROW_LABEL, BAND_GAP, AXIS = 0.16, 0.24, 0.22, 0.06, 0.22
#: Most lines of panels in one picture. Beyond, it would be taller than matplotlib can draw.
MOST_LINES = 120
#: Most views drawn of one masker; EAT's makes 16.
MOST_VIEWS = 4

#: Font sizes in points.
LARGE, MEDIUM, SMALL, SMALLEST = 10.5, 8.5, 7.5, 5.5
SPECTRUM, WEIGHTS = "viridis", "magma"
#: Grey level of masked patches, where the sound is loudest and where it is quietest.
MASKED = (0.80, 0.93)
#: Percentiles of the values at the two ends of the colour map, so that outliers do not take up its range.
OUTSIDE = (1.0, 99.7)
TICKS_HZ = (50, 100, 200, 500, 1000, 2000, 4000, 8000, 16000)


@dataclass(frozen=True)
class _Panel:
    """One column of panels: the masker, the heading, and the index of the view or of the importance map to draw."""

    column: int
    label: str
    what: str
    view: int | None = None
    map: int | None = None


def draw_preview(preview: MaskPreview) -> Figure:
    """Draw masks over spectrograms.

    Rows are clips at a progress; columns are each masker's views and the importance by which it chooses. Columns that
    do not fit side by side continue in a band below, where possible with a masker's columns together.

    Raises:
        UsageError: more rows than one picture holds.
    """
    from matplotlib.figure import Figure

    bands, notes = _bands(preview), _notes(preview)
    lines = len(bands) * len(preview.rows)
    if lines > MOST_LINES:
        raise UsageError(
            f"{lines} lines of panels are too many for a picture (at most {MOST_LINES})",
            hint="draw fewer files, points of progress or maskers at a time",
        )
    most, several = max(map(len, bands)), len(preview.rows) > 1
    # Inches throughout; matplotlib takes shares of the figure, and counts from the lower left corner.
    width = (WIDTH - LEFT - RIGHT - (most - 1) * GAP) / most
    # Flatter for longer crops, so that patches are about square.
    height = width * float(np.clip(2.6 * preview.grid.freq / preview.grid.time, 0.36, 0.75))
    line = height + TITLE + (ROW_LABEL if several else 0.0)
    bottom = BOTTOM + NOTE * len(notes)
    tall = TOP + lines * line + len(bands) * (AXIS + BAND_GAP) - BAND_GAP + bottom
    figure = Figure(figsize=(WIDTH, tall), facecolor="white")
    base = tall - TOP
    for band in bands:
        for number, row in enumerate(preview.rows):
            base -= line
            if several:
                _write(figure, LEFT, base + height + TITLE - 0.03, _row_label(row, preview), SMALL, FAINT)
            for place, panel in enumerate(band):
                left = LEFT + place * (width + GAP)
                axes = figure.add_axes((left / WIDTH, base / tall, width / WIDTH, height / tall))
                _fill(axes, preview, number, panel)
                _axis(axes, preview, first=place == 0, last=number == len(preview.rows) - 1)
        base -= AXIS + BAND_GAP
    _write(figure, LEFT, tall - 0.24, f"Masks: {preview.title}", LARGE, INK, weight="bold")
    _write(figure, LEFT, tall - 0.43, _subtitle(preview), SMALL, FAINT)
    _legend(figure, preview, tall, bottom)
    for number, note in enumerate(notes):
        _write(figure, LEFT, bottom - 0.42 - NOTE * number, note, SMALL, FAINT)
    return figure


def _panels(preview: MaskPreview) -> list[list[_Panel]]:
    """Return the columns of panels, grouped by masker."""
    groups = []
    for column, masker in enumerate(preview.columns):
        cells = [row[column] for row in preview.cells]
        views, maps = len(cells[0].views), max(len(cell.importance) for cell in cells)
        which = [f", view {n + 1} of {views}" if views > 1 else "" for n in range(views)]
        group = [_Panel(column, masker.label, which[n], view=n) for n in range(min(views, MOST_VIEWS))]
        for n in range(min(maps, MOST_VIEWS)):
            what = f", importance{which[n] if maps > 1 else ''}"
            group.append(_Panel(column, masker.label, what, map=n))
        groups.append(group)
    return groups


def _bands(preview: MaskPreview) -> list[list[_Panel]]:
    """Arrange the columns in bands of at most three or four, whichever leaves less space empty."""
    groups = _panels(preview)
    if sum(map(len, groups)) <= 4:
        return [[panel for group in groups for panel in group]]

    def packed(most: int) -> list[list[_Panel]]:
        bands: list[list[_Panel]] = []
        for group in groups:
            for first in range(0, len(group), most):
                part = group[first : first + most]
                if bands and len(bands[-1]) + len(part) <= most:
                    bands[-1] += part
                else:
                    bands.append(list(part))
        return bands

    three, four = packed(3), packed(4)
    return three if 3 * len(three) <= 4 * len(four) else four  # fewer places for the same panels


def _fill(axes: Axes, preview: MaskPreview, row: int, panel: _Panel) -> None:
    """Draw one panel."""
    room = axes.get_position().width * WIDTH  # inches left for the heading
    cell = preview.cells[row][panel.column]
    extent = (0.0, preview.seconds, 0.0, float(preview.grid.freq * preview.patch[0]))
    style: dict[str, Any] = {"origin": "lower", "extent": extent, "aspect": "auto", "interpolation": "nearest"}
    if panel.view is not None:
        view = cell.views[panel.view]
        # The ends of the colour map are the same for all spectrograms of a row.
        values = [each.spectrogram.ravel() for other in preview.cells[row] for each in other.views]
        low, high = map(float, np.percentile(np.concatenate(values), OUTSIDE))
        limits = (low, max(high, low + 1e-6))
        picture, cells = _colour_patches(view, limits, preview.patch), view.masked.size
        share = f"{100 * view.visible / cells:.0f} % visible"
        axes.imshow(picture, **style)
        axes.set_title(share, loc="right", fontsize=SMALL, color=FAINT, pad=3)
        room -= _inches(share, SMALL) + GAP / 2
    elif panel.map is not None and panel.map < len(cell.importance):
        axes.imshow(cell.importance[panel.map], cmap=WEIGHTS, **style)
    heading, size = _fitted(panel, room)
    axes.set_title(heading, loc="left", fontsize=size, color=INK, fontweight="bold", pad=3, parse_math=False)
    edges = np.arange(1, preview.grid.time) * preview.seconds / preview.grid.time
    axes.vlines(edges, *extent[2:], color="white", alpha=0.35, linewidth=0.35)
    axes.hlines(
        np.arange(1, preview.grid.freq) * preview.patch[0], *extent[:2], color="white", alpha=0.35, linewidth=0.35
    )


def _colour_patches(view: MaskView, limits: tuple[float, float], patch: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw visible patches in colour and masked ones in pale grey; RGB ``[F, T, 3]``."""
    from matplotlib import colormaps

    level = np.clip((view.spectrogram - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0)  # [F, T]
    masked = np.kron(view.masked, np.ones(patch, dtype=bool))  # [F, T]
    loud, quiet = MASKED
    grey = np.repeat((quiet + (loud - quiet) * level)[:, :, None], 3, axis=2)  # [F, T, 3]
    coloured = colormaps[SPECTRUM](level)[:, :, :3]
    return (np.where(masked[:, :, None], grey, coloured) * 255.0).round().astype(np.uint8)


def _axis(axes: Axes, preview: MaskPreview, *, first: bool, last: bool) -> None:
    """Label the axes: seconds below the last row, kHz beside the first column."""
    axes.tick_params(length=2, width=0.5, pad=1.5, labelsize=SMALL, colors=FAINT)
    for spine in axes.spines.values():
        spine.set_visible(False)
    bins = np.arange(len(preview.bin_hz)) + 0.5
    ticks = _ticks(preview)
    axes.set_yticks([])
    if first:
        axes.set_yticks(np.interp(ticks, preview.bin_hz, bins), [f"{hz / 1000:g}" for hz in ticks])
    axes.set_ylim(0.0, preview.grid.freq * preview.patch[0])
    axes.set_xlim(0.0, preview.seconds)
    if first:
        axes.set_ylabel("kHz", fontsize=SMALL, color=FAINT, labelpad=2)
    if last:
        seconds = axes.get_xticks()
        inside = [float(second) for second in seconds if 0.0 <= second <= preview.seconds]
        axes.set_xticks(inside, [f"{second:g}{' s' if second == inside[-1] else ''}" for second in inside])
    else:
        axes.set_xticks([])


def _ticks(preview: MaskPreview) -> list[int]:
    """Choose round frequencies within the picture that do not crowd the mel axis."""
    shown = preview.bin_hz[: preview.grid.freq * preview.patch[0]]
    places = np.interp(TICKS_HZ, preview.bin_hz, np.arange(len(preview.bin_hz)))
    kept: list[int] = []
    before = -np.inf
    for hz, place in zip(TICKS_HZ, places, strict=True):
        if shown[0] <= hz <= shown[-1] * 1.03 and place - before >= 0.15 * len(shown):
            kept.append(hz)
            before = place
    return kept


def _row_label(row: MaskRow, preview: MaskPreview) -> str:
    """Name what distinguishes a row from the others: its file, its progress, or both."""
    parts = []
    if len({each.clip for each in preview.rows}) > 1:
        parts.append(row.clip)
    if len({each.progress for each in preview.rows}) > 1:
        parts.append(_progress(row.progress))
    return " · ".join(parts) or row.clip


def _progress(share: float) -> str:
    if share in (0.0, 1.0):
        return "at the end of training" if share else "at the start of training"
    return f"after {100 * share:.3g} % of training"


def _subtitle(preview: MaskPreview) -> str:
    """Write what all rows have in common."""
    clips, shares = {row.clip for row in preview.rows}, {row.progress for row in preview.rows}
    parts = [*clips] if len(clips) == 1 else []
    parts.append(f"{preview.grid.freq} × {preview.grid.time} patches of {preview.patch[0]} × {preview.patch[1]}")
    if len(shares) == 1:
        parts.append(_progress(*shares))
    parts.append(f"normalised by {preview.normalised_by}")
    return " · ".join(parts)


def _notes(preview: MaskPreview) -> list[str]:
    """Write whose latents a masker used, and how many of its views are drawn."""
    notes = [f"{column.label}: by the latents of the {column.latents}" for column in preview.columns if column.latents]
    for number, column in enumerate(preview.columns):
        views = len(preview.cells[0][number].views)
        if views > MOST_VIEWS:
            notes.append(f"{column.label}: {MOST_VIEWS} of its {views} views")
    return notes


def _legend(figure: Figure, preview: MaskPreview, tall: float, bottom: float) -> None:
    """Explain the colours in one line: visible, masked and, if drawn, importance."""
    from matplotlib import colormaps

    loud, quiet = MASKED
    grey = np.repeat(np.linspace(quiet, loud, 64)[:, None], 3, axis=1)
    ramp = np.linspace(0.0, 1.0, 64)
    entries = [("visible, quiet to loud", colormaps[SPECTRUM](ramp)[:, :3]), ("masked", grey)]
    if any(cell.importance for row in preview.cells for cell in row):
        entries.append(("importance, low to high within the clip", colormaps[WEIGHTS](ramp)[:, :3]))
    left = LEFT
    for text, colours in entries:
        axes = figure.add_axes((left / WIDTH, (bottom - 0.23) / tall, 0.5 / WIDTH, 0.09 / tall))
        axes.imshow(colours[None], aspect="auto")
        axes.set_axis_off()
        _write(figure, left + 0.57, bottom - 0.225, text, SMALL, INK)
        left += 0.57 + _inches(text, SMALL) + 0.25


def _fitted(panel: _Panel, room: float) -> tuple[str, float]:
    """Return a panel's heading and font size: reduced, then with a shorter name, until it fits ``room`` inches."""
    name, text = panel.label, panel.label + panel.what
    size = max(SMALLEST, min(MEDIUM, MEDIUM * room / _inches(text, MEDIUM, bold=True)))
    while len(name) > 1 and _inches(text, size, bold=True) > room:
        name = name[:-1]
        text = f"{name}…{panel.what}"
    return text, size


def _inches(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of a text."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    font = FontProperties(weight="bold" if bold else "normal", size=size)
    return float(TextToPath().get_text_width_height_descent(text, font, ismath=False)[0]) / 72


def _write(figure: Figure, x: float, y: float, text: str, size: float, colour: str, **style: Any) -> None:
    """Write a line at inches from the lower left corner; ``$`` in a file name starts no formula."""
    width, height = figure.get_size_inches()
    figure.text(x / width, y / height, text, fontsize=size, color=colour, parse_math=False, **style)
