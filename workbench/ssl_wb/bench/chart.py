"""A picture of the scaling curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["draw_scaling"]


def draw_scaling(report: dict[str, Any], path: Path) -> None:
    """Draw step time over size on logarithmic axes.

    Medians, 10 to 90 %, the fitted line, and a line of exponent 1, or -1 for processes.

    Args:
        report: what ``bench`` returned, with a scale.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure  # takes a second, so only where a picture is wanted
    from matplotlib.ticker import StrMethodFormatter

    scale, measured = report["scale"], report["contestants"]
    sizes = np.array(scale["sizes"])
    steps = [one["step_seconds"] for one in measured]
    medians = np.array([step["median"] for step in steps])
    bars = np.array(
        [[step["median"] - step["p10"] for step in steps], [step["p90"] - step["median"] for step in steps]]
    )
    figure = Figure(figsize=(6.0, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.errorbar(sizes, medians, yerr=bars, fmt="o", capsize=3, label="median, 10 to 90 %")
    axes.plot(
        sizes,
        scale["factor_seconds"] * sizes ** scale["exponent"],
        label=f"exponent {scale['exponent']:.2f} (95 %: {scale['low']:.2f} to {scale['high']:.2f})",
    )
    ideal = -1 if scale["over"] == "processes" else 1
    line = medians[0] * (sizes / sizes[0]) ** ideal
    axes.plot(sizes, line, color="grey", linewidth=0.8, linestyle=":", label=f"exponent {ideal}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [one["name"] for one in measured], minor=False)
    for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        which(StrMethodFormatter("{x:g}"))
    axes.tick_params(axis="y", which="both", labelsize=8)
    axes.set_xlabel(scale["unit"])
    axes.set_ylabel("seconds per step")
    first = measured[0]
    device = report["environment"]["device"]
    axes.set_title(
        f"{first['title'] or Path(first['recipe']).stem}\n{first['precision']} on {device['type']}", fontsize=9
    )
    axes.legend(fontsize=8)
    axes.grid(True, which="both", alpha=0.25)
    figure.savefig(path)
