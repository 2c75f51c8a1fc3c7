"""Pictures of the ``detail`` of results: scores layer by layer, and spectra of singular values.

There is one picture for each task and evaluator, with all encoders in it. The keys of ``detail`` decide what is drawn
(see :class:`ssl_wb.plugin.evaluator.Result`), not the evaluator's name, so results of any plugin can be drawn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_wb.errors import UsageError
from ssl_wb.evaluation.results import Row
from ssl_wb.files import why_not_writable
from ssl_wb.report.picture_files import FAINT, INK, save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["check_chart_folder", "draw_layers", "draw_probes", "draw_spectrum"]

#: Keys of ``Result.detail`` that are drawn.
LAYERS, TOGETHER, WEIGHTS, SPECTRUM, HIDDEN = "per layer", "all layers", " weights", "singular values", "hidden"
#: Suffix of an untrained encoder's name.
UNTRAINED = ", untrained"
#: Inches and points.
WIDTH, LARGE, MEDIUM, SMALL = 9.0, 10.5, 8.5, 7.5
#: Columns of the legend by the length of its longest name, in characters.
COLUMNS = {44: 2, 26: 3}
#: Singular values below this share of the largest are not drawn: in float32 they are rounding errors.
LEAST = 1e-5


def check_chart_folder(folder: Path) -> None:
    """Check that a folder for pictures can be made, before hours of probing.

    Raises:
        UsageError: a file is in its place, or it cannot be written.
    """
    for place in (folder, *folder.parents):
        if place.exists():
            if not place.is_dir():
                raise UsageError(f"--chart {folder}: {place} is a file", hint="name a folder")
            break
    if fault := why_not_writable(folder):
        raise UsageError(f"--chart {folder}: cannot be written ({fault})", hint="name another folder")


def draw_probes(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw every picture that the results have the data for.

    Args:
        rows: results.
        folder: where ``TASK-EVALUATOR.png`` are written; files of the same name are replaced.

    Returns:
        The files, in the order of the results; none where no result can be drawn.

    Raises:
        UsageError: a file cannot be written.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.task, row.evaluator), []).append(row)
    written = []
    for (task, evaluator), group in groups.items():
        for key, draw in ((LAYERS, draw_layers), (SPECTRUM, draw_spectrum)):
            drawn = [row for row in group if row.result.detail.get(key)]
            if drawn:
                # Only letters, digits and a few signs of the names, so that they are safe in a file name.
                parts = [re.sub(r"[^\w.+-]+", "-", name).strip("-") for name in (task, evaluator)]
                path = folder / f"{parts[0]}-{parts[1]}.png"
                save_picture(draw(drawn), path)
                written.append(path)
    return written


@dataclass(frozen=True)
class _Line:
    """Style of an encoder: one colour per run, dashed if untrained; baselines are dotted and grey."""

    colour: Any
    style: str
    marker: str

    def drawn(self, size: float = 4.0) -> dict[str, Any]:
        """Return the arguments of matplotlib's ``plot``."""
        face = "white" if self.style == "--" else self.colour
        return {
            "color": self.colour,
            "linestyle": self.style,
            "marker": self.marker,
            "markersize": size,
            "markerfacecolor": face,
            "linewidth": 1.4,
        }


def _lines(rows: Sequence[Row]) -> list[_Line]:
    """Choose a style for every row; a run and its untrained encoder share a colour."""
    from matplotlib import colormaps

    names = list(dict.fromkeys(row.encoder.removesuffix(UNTRAINED) for row in rows if row.role != "baseline"))
    palette = colormaps["tab10" if len(names) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    plain = [row.encoder for row in rows if row.role == "baseline"]
    lines = []
    for row in rows:
        if row.role == "baseline":
            number = plain.index(row.encoder)
            lines.append(_Line(str(0.35 + 0.3 * (number % 2)), ":", "sD"[number % 2]))
        else:
            colour = palette[names.index(row.encoder.removesuffix(UNTRAINED)) % len(palette)]
            lines.append(_Line(colour, "--" if row.role == "untrained" else "-", "o"))
    return lines


def draw_layers(rows: Sequence[Row]) -> Figure:
    """Draw the score of every layer of every encoder and, below, the weights that probes of all layers learnt.

    Args:
        rows: results of one task and evaluator whose ``detail`` has ``per layer``.
    """
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(key for row in rows for key in row.result.detail if key.endswith(WEIGHTS)))
    figure = Figure(figsize=(WIDTH, 5.8 if kinds else 4.2), facecolor="white", layout="constrained")
    grid = figure.add_gridspec(2 if kinds else 1, max(1, len(kinds)), height_ratios=(2.2, 1.0) if kinds else None)
    lines = _lines(rows)
    _draw_scores(figure.add_subplot(grid[0, :]), rows, lines)
    for place, kind in enumerate(kinds):
        _draw_weights(figure.add_subplot(grid[1, place]), kind, rows, lines)
    _entitle(figure, rows, "score by layer")
    _legend(figure, lines, [row.encoder for row in rows])
    return figure


def _draw_scores(axes: Axes, rows: Sequence[Row], lines: Sequence[_Line]) -> None:
    """Draw scores by layer, then scores of all layers together, and chance."""
    factor = 100.0 if rows[0].result.percent else 1.0
    deepest = max(len(row.result.detail[LAYERS]) for row in rows)
    together = [row.result.detail.get(TOGETHER, {}) for row in rows]
    others = list(dict.fromkeys(name for scores in together for name in scores))
    shown: list[float] = []
    for number, (row, line) in enumerate(zip(rows, lines, strict=True)):
        scores = np.array(row.result.detail[LAYERS]) * factor  # [L]
        shown += [*scores, *(factor * score for score in together[number].values())]
        axes.plot(np.arange(1, len(scores) + 1), scores, **line.drawn())
        aside = 0.5 * ((number + 0.5) / len(rows) - 0.5)  # shifted, so that equal scores do not hide each other
        for place, name in enumerate(others, start=deepest + 1):
            if name in together[number]:
                axes.plot(place + aside, together[number][name] * factor, **{**line.drawn(), "linestyle": ""})
    _limit(axes, shown, rows[0].chance * factor)
    if others:
        axes.axvline(deepest + 0.5, color=FAINT, linewidth=0.6)
    ticks = [*map(str, range(1, deepest + 1)), *(fill(name, 10) for name in others)]
    axes.set_xticks(np.arange(1, len(ticks) + 1), ticks)
    axes.set_xlim(0.5, len(ticks) + 0.5)
    _label(axes, "layer (1 is the first block)", f"{rows[0].result.metric}{', %' if factor > 1 else ''}")


def _limit(axes: Axes, shown: Sequence[float], chance: float) -> None:
    """Limit the axis to the scores; draw chance as a line if it is within, else write it."""
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    margin = 0.08 * (high - low) + 0.01 * abs(high)
    axes.set_ylim(low - margin, high + margin)
    if np.isnan(chance):
        return
    within = low - margin <= chance <= high + margin
    if within:
        axes.axhline(chance, color=FAINT, linewidth=0.9, linestyle=(0, (1, 3)))
    axes.annotate(
        "chance" if within else f"chance is {chance:.1f}",
        (0.0, chance if within else low - margin),
        xycoords=("axes fraction", "data"),
        xytext=(3, 2),
        textcoords="offset points",
        fontsize=SMALL,
        color=FAINT,
    )


def _draw_weights(axes: Axes, kind: str, rows: Sequence[Row], lines: Sequence[_Line]) -> None:
    """Draw the weight that one kind of probe gives to each layer, mean over splits; equal weights are dotted."""
    depths, largest = set(), 0.0
    for row, line in zip(rows, lines, strict=True):
        weights: Mapping[str, Sequence[float]] | None = row.result.detail.get(kind)  # of each split
        if weights:
            shares = np.mean([list(values) for values in weights.values()], axis=0)  # [L]
            axes.plot(np.arange(1, len(shares) + 1), 100 * shares, **line.drawn(3.0))
            depths.add(len(shares))
            largest = max(largest, 100 * float(shares.max()))
    for depth in depths:
        axes.plot([1, depth], [100 / depth] * 2, color=FAINT, linewidth=0.9, linestyle=(0, (1, 3)))
    deepest = max(depths, default=1)
    axes.set_xticks(np.arange(1, deepest + 1))
    axes.set_xlim(0.5, deepest + 0.5)
    axes.set_ylim(0.0, 1.1 * largest or None)
    _label(axes, "layer", "weight, %")
    axes.set_title(f"{kind.removesuffix(WEIGHTS)}: weight of each layer (dotted: all alike)", fontsize=SMALL, color=INK)


def draw_spectrum(rows: Sequence[Row]) -> Figure:
    """Draw each encoder's singular values on a logarithmic axis, and its rank by the share of masked patches.

    Args:
        rows: results of one task and evaluator whose ``detail`` has ``singular values``.
    """
    from matplotlib.figure import Figure

    masked = [row for row in rows if row.result.detail.get(HIDDEN)]
    figure = Figure(figsize=(WIDTH, 4.6), facecolor="white", layout="constrained")
    panels = figure.subplots(1, 2 if masked else 1, squeeze=False, width_ratios=(1.7, 1.0) if masked else None)[0]
    lines = _lines(rows)
    for row, line in zip(rows, lines, strict=True):
        values = np.array(row.result.detail[SPECTRUM])  # [k]
        shown = np.where(values >= LEAST, values, np.nan)
        panels[0].plot(np.arange(1, len(values) + 1), shown, **{**line.drawn(), "marker": ""})
    panels[0].set_yscale("log")
    panels[0].set_ylim(top=1.3)
    panels[0].set_xlim(left=0.0)
    _label(panels[0], "singular value, by size", "size over the largest")
    if masked:
        for row, line in zip(rows, lines, strict=True):
            if one := row.result.detail.get(HIDDEN):
                panels[1].plot([100 * share for share in one["share"]], one["effective rank"], **line.drawn())
        panels[1].set_ylim(bottom=0.0)
        _label(panels[1], "patches hidden, %", "effective rank")
        panels[1].set_title("embedded from the visible patches alone", fontsize=SMALL, color=INK)
    metric = rows[0].result.metric
    _entitle(figure, rows, "singular values of the embeddings")
    names = [f"{row.encoder} ({row.result.mean:.{1 if row.result.mean < 1000 else 0}f})" for row in rows]
    _legend(figure, lines, names, f"in brackets: {metric}")
    return figure


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=MEDIUM, color=INK)
    axes.set_ylabel(y, fontsize=MEDIUM, color=INK)
    axes.tick_params(labelsize=SMALL, colors=INK)
    axes.grid(True, alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _entitle(figure: Figure, rows: Sequence[Row], what: str) -> None:
    """Write the title of a picture; ``$`` in a task's name starts no formula."""
    title = figure.suptitle(f"{rows[0].task}: {what}", fontsize=LARGE, color=INK, fontweight="bold")
    title.set_parse_math(False)


def _legend(figure: Figure, lines: Sequence[_Line], names: Sequence[str], heading: str | None = None) -> None:
    """Explain the lines below the panels, side by side where the names are short."""
    from matplotlib.lines import Line2D

    longest = max(map(len, names))
    columns = max((count for width, count in COLUMNS.items() if longest <= width), default=1)
    legend = figure.legend(
        [Line2D([], [], **line.drawn()) for line in lines],
        names,
        loc="outside lower center",
        ncols=min(columns, len(names)),
        fontsize=SMALL,
        frameon=False,
        title=heading,
        title_fontsize=SMALL,
        handlelength=3.2,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
