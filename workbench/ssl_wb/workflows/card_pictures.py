"""The picture of a run's training for its model card."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ssl_wb.report.picture_files import FAINT, INK, save_picture
from ssl_wb.runs.folder import RunFolder

__all__ = ["draw_training"]

#: Endings of the figures that are drawn, and what they are called.
PANELS = {"loss": "loss", "latent_rank": "effective rank of the latents"}


def draw_training(run: RunFolder, out: Path) -> bool:
    """Draw losses and the rank of the latents over the steps of a run.

    Args:
        run: the run.
        out: picture to write.

    Returns:
        Whether there was something to draw: two logged steps at least.
    """
    rows = _rows(run.metrics)
    if len(rows) < 2:
        return False
    from matplotlib.figure import Figure

    curves = {panel: _curves(rows, panel) for panel in PANELS}
    shown = [panel for panel in PANELS if curves[panel]]
    figure = Figure(figsize=(4.5 * len(shown), 3), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for name, (steps, values) in curves[panel].items():
            axes.plot(steps, values, label=name, linewidth=1.8 if name == panel else 1.0)
        axes.set_title(PANELS[panel], color=INK, fontsize=10)
        axes.set_xlabel("step", color=FAINT)
        if len(curves[panel]) > 1:
            axes.legend(frameon=False, fontsize=8)
    save_picture(figure, out)
    return True


def _rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of ``metrics.jsonl`` up to an incomplete one."""
    rows: list[dict[str, Any]] = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _curves(rows: list[dict[str, Any]], ending: str) -> dict[str, tuple[list[int], list[float]]]:
    """Return the curves of the figures whose names end so, by name."""
    names = dict.fromkeys(key for row in rows for key in row if key == ending or key.endswith(f".{ending}"))
    found = {}
    for name in names:
        points = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), (int, float))]
        points = [point for point in points if math.isfinite(point[1])]
        if len(points) > 1:
            found[name] = ([step for step, _ in points], [value for _, value in points])
    return found
