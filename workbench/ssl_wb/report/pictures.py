"""Pictures: masks over spectrograms.

Drawn by matplotlib's objects, without pyplot and its state, which belongs to the caller; matplotlib is imported when a
picture is asked for, because that takes a second.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.errors import UsageError
from ssl_wb.files import write_atomically
from ssl_wb.report.masks import MaskPreview, MaskRow, MaskView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ENDINGS", "check_picture", "draw_preview", "save_picture"]

ENDINGS = (".png", ".pdf", ".svg")

#: Inches. A README shows a picture about 900 pixels wide, 100 to the inch; DPI draws it finer, for sharp screens.
WIDTH = 9.0
DPI = 180
LEFT, RIGHT, TOP, BOTTOM, NOTE = 0.46, 0.1, 0.52, 0.34, 0.16
GAP, TITLE, ROW_LABEL, BAND_GAP, AXIS = 0.16, 0.24, 0.22, 0.06, 0.22
#: Most lines of panels in one picture: beyond, matplotlib draws no more.
MOST_LINES = 120
#: Views drawn of a masker that makes more of them, as EAT's 16.
MOST_VIEWS = 4

#: Points, at WIDTH.
LARGE, MEDIUM, SMALL, SMALLEST = 10.5, 8.5, 7.5, 5.5
INK, FAINT = "#1f2328", "#656d76"
SPECTRUM, WEIGHTS = "viridis", "magma"
#: Grey of masked patches where the sound is loudest and where it is quietest.
MASKED = (0.80, 0.93)
#: Share of the values that fall outside the colours, below and above.
OUTSIDE = (1.0, 99.7)
TICKS_HZ = (50, 100, 200, 500, 1000, 2000, 4000, 8000, 16000)


@dataclass(frozen=True)
class _Panel:
    """One column of panels: which masker, what of it, and the number of its view or of its map."""

    column: int
    label: str
    what: str
    view: int | None = None
    map: int | None = None


def check_picture(out: Path, *, overwrite: bool) -> None:
    """Refuse an output that cannot be written, before the work and not after it.

    Raises:
        UsageError: another ending, or a file that is already there.
    """
    if out.suffix.lower() not in ENDINGS:
        raise UsageError(
            f"{out}: cannot draw {out.suffix or 'a file without ending'}", hint=f"end it in {', '.join(ENDINGS)}"
        )
    if out.is_dir():
        raise UsageError(f"{out} is a folder", hint="name a file")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} is already there", hint="--overwrite replaces it")


def save_picture(figure: Figure, out: Path) -> None:
    """Write a picture, whole or not at all; the ending says the format.

    Raises:
        UsageError: the file cannot be written.
    """
    from matplotlib import rc_context

    ending = out.suffix.lower().removeprefix(".")
    drawn = io.BytesIO()
    # Without the date and random names of parts, the same picture is the same file.
    metadata: dict[str, Any] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(ending, {})
    with rc_context({"svg.hashsalt": "ssl-wb"}):
        figure.savefig(drawn, format=ending, dpi=DPI, metadata=metadata)
    try:
        write_atomically(out, _fewer_colours(drawn) if ending == "png" else drawn.getvalue())
    except OSError as failure:
        raise UsageError(f"cannot write {out}: {failure.strerror or failure}", hint="name another file") from None


def _fewer_colours(drawn: io.BytesIO) -> bytes:
    """Bring a PNG down to 256 colours: a third of the bytes, and two colour maps do not need more."""
    from PIL import Image  # what matplotlib itself writes PNG with

    smaller = io.BytesIO()
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(smaller, format="png", optimize=True)
    return smaller.getvalue()


def draw_preview(preview: MaskPreview) -> Figure:
    """Draw masks over spectrograms.

    Rows are clips at a progress; columns are each masker's views and the importance by which it chooses. More columns
    than fit side by side go on below, a masker's own together.

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
    most, several = max(len(band) for band in bands), len(preview.rows) > 1
    width = (WIDTH - LEFT - RIGHT - (most - 1) * GAP) / most
    height = width * _shape(preview)
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
                box = (LEFT + place * (width + GAP), base, width, height)
                axes = figure.add_axes((box[0] / WIDTH, box[1] / tall, box[2] / WIDTH, box[3] / tall))
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
    """Return the columns of panels of each masker."""
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
    """Arrange the columns of panels in bands, three or four side by side, whichever leaves less space empty."""
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
    empty = {3: 3 * len(three), 4: 4 * len(four)}
    return three if empty[3] <= empty[4] else four


def _shape(preview: MaskPreview) -> float:
    """Return the height of a panel over its width: flatter for longer crops, patches about as high as wide."""
    return float(np.clip(2.6 * preview.grid.freq / preview.grid.time, 0.36, 0.75))


def _fill(axes: Axes, preview: MaskPreview, row: int, panel: _Panel) -> None:
    """Draw one panel."""
    room = axes.get_position().width * WIDTH  # inches for its heading
    cell = preview.cells[row][panel.column]
    extent = (0.0, preview.seconds, 0.0, float(preview.grid.freq * preview.patch[0]))
    if panel.view is not None:
        view = cell.views[panel.view]
        limits = _limits(each for other in preview.cells[row] for each in other.views)
        picture, cells = _masked_picture(view, limits, preview.patch), view.masked.size
        share = f"{100 * view.visible / cells:.0f} % visible"
        axes.imshow(picture, origin="lower", extent=extent, aspect="auto", interpolation="nearest")
        axes.set_title(share, loc="right", fontsize=SMALL, color=FAINT, pad=3)
        room -= _inches(share, SMALL) + GAP / 2
    elif panel.map is not None and panel.map < len(cell.importance):
        axes.imshow(
            cell.importance[panel.map],
            cmap=WEIGHTS,
            origin="lower",
            extent=extent,
            aspect="auto",
            interpolation="nearest",
        )
    heading, size = _fitted(panel, room)
    axes.set_title(heading, loc="left", fontsize=size, color=INK, fontweight="bold", pad=3, parse_math=False)
    edges = np.arange(1, preview.grid.time) * preview.seconds / preview.grid.time
    axes.vlines(edges, *extent[2:], color="white", alpha=0.35, linewidth=0.35)
    axes.hlines(
        np.arange(1, preview.grid.freq) * preview.patch[0], *extent[:2], color="white", alpha=0.35, linewidth=0.35
    )


def _limits(views: Iterator[MaskView]) -> tuple[float, float]:
    """Return the values at which the colours of a row's spectrograms begin and end."""
    low, high = np.percentile(np.concatenate([view.spectrogram.ravel() for view in views]), OUTSIDE)
    return float(low), float(max(high, low + 1e-6))


def _masked_picture(view: MaskView, limits: tuple[float, float], patch: tuple[int, int]) -> NDArray[np.uint8]:
    """Colour the visible patches and leave a pale grey shadow of the masked ones; RGB ``[F, T, 3]``."""
    from matplotlib import colormaps

    level = np.clip((view.spectrogram - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0)  # [F, T]
    masked = np.kron(view.masked, np.ones(patch, dtype=bool))  # [F, T]
    loud, quiet = MASKED
    grey = np.repeat((quiet + (loud - quiet) * level)[:, :, None], 3, axis=2)  # [F, T, 3]
    coloured = colormaps[SPECTRUM](level)[:, :, :3]
    return (np.where(masked[:, :, None], grey, coloured) * 255.0).round().astype(np.uint8)


def _axis(axes: Axes, preview: MaskPreview, *, first: bool, last: bool) -> None:
    """Seconds below the last row, kHz beside the first column."""
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
    """Choose round frequencies that are shown and lie apart on the mel axis."""
    shown = preview.bin_hz[: preview.grid.freq * preview.patch[0]]
    kept: list[int] = []
    for hz in TICKS_HZ:
        if not shown[0] <= hz <= shown[-1] * 1.03:
            continue
        place = float(np.interp(hz, preview.bin_hz, np.arange(len(preview.bin_hz))))
        before = float(np.interp(kept[-1], preview.bin_hz, np.arange(len(preview.bin_hz)))) if kept else -np.inf
        if place - before >= 0.15 * len(shown):
            kept.append(hz)
    return kept


def _row_label(row: MaskRow, preview: MaskPreview) -> str:
    """Name what tells a row from the others: its file, its progress, or both."""
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
    """Say what all rows have in common."""
    clips, shares = {row.clip for row in preview.rows}, {row.progress for row in preview.rows}
    parts = [*clips] if len(clips) == 1 else []
    parts.append(f"{preview.grid.freq} × {preview.grid.time} patches of {preview.patch[0]} × {preview.patch[1]}")
    if len(shares) == 1:
        parts.append(_progress(*shares))
    parts.append(f"normalised by {preview.normalised_by}")
    return " · ".join(parts)


def _notes(preview: MaskPreview) -> list[str]:
    """Say what the panels cannot."""
    notes = [f"{column.label}: by the latents of the {column.latents}" for column in preview.columns if column.latents]
    for number, column in enumerate(preview.columns):
        views = len(preview.cells[0][number].views)
        if views > MOST_VIEWS:
            notes.append(f"{column.label}: {MOST_VIEWS} of its {views} views")
    return notes


def _legend(figure: Figure, preview: MaskPreview, tall: float, bottom: float) -> None:
    """Explain the colours in one line: visible, masked and, where there is one, importance."""
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
    """Return a panel's heading and its size: smaller, and in the end the name shorter, where ``room`` inches ask it."""
    name, text = panel.label, panel.label + panel.what
    size = max(SMALLEST, min(MEDIUM, MEDIUM * room / _inches(text, MEDIUM, bold=True)))
    while len(name) > 1 and _inches(text, size, bold=True) > room:
        name = name[:-1]
        text = f"{name}…{panel.what}"
    return text, size


def _inches(text: str, size: float, *, bold: bool = False) -> float:
    """Return how wide a text is."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    font = FontProperties(weight="bold" if bold else "normal", size=size)
    return float(TextToPath().get_text_width_height_descent(text, font, ismath=False)[0]) / 72


def _write(figure: Figure, x: float, y: float, text: str, size: float, colour: str, **style: Any) -> None:
    """Write a line at inches from the lower left corner; what a file is called is no formula."""
    width, height = figure.get_size_inches()
    figure.text(x / width, y / height, text, fontsize=size, color=colour, parse_math=False, **style)
