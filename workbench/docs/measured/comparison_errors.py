"""How often compare errs on constructed runs: ``python workbench/docs/measured/comparison_errors.py [REPEATS]``.

Writes comparison-errors.md and comparison-errors.svg beside this file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "tests" / "scoring"))

from comparison_simulation import runs  # noqa: E402

from ssl_wb.evaluation.comparison import compare_cells  # noqa: E402

#: (pre-training seeds, test clips).
DESIGNS = [(2, 400), (3, 400), (3, 2000), (5, 400), (5, 2000)]
#: Difference of the true scores in points, and the mark that is counted.
CASES = [(0.0, "different"), (2.0, "different"), (5.0, "different"), (1.0, "equivalent"), (0.0, "equivalent")]


def share(difference: float, mark: str, seeds: int, clips: int, repeats: int) -> float:
    """Return the share of repeats in which a cell gets a mark against a baseline of 70 %."""
    hits = 0
    for repeat in range(repeats):
        random = np.random.default_rng([seeds, clips, int(10 * difference), repeat])
        cells = runs([0.7, 0.7 + difference / 100], seeds, clips, random)
        found = compare_cells(cells, {"cell 1": "cell 0"})
        hits += any(getattr(one, mark) for one in found.contrasts.values())
    return hits / repeats


def draw(table: dict[tuple[float, str], list[float]]) -> None:
    """Draw the shares of `*` over the design."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(DESIGNS))
    for number, difference in enumerate((0.0, 2.0, 5.0)):
        label = "no difference (error)" if not difference else f"{difference:g} points"
        axes.bar(places + 0.27 * (number - 1), np.array(table[difference, "different"]) * 100, 0.25, label=label)
    axes.axhline(5, color="black", linewidth=0.8, linestyle=":")
    axes.set_xticks(places, [f"{seeds} seeds\n{clips} clips" for seeds, clips in DESIGNS])
    axes.set_ylabel("marked different, % of draws")
    axes.legend(fontsize=8, title="true difference")
    figure.savefig(HERE / "comparison-errors.svg", metadata={"Date": None})


def main(repeats: int) -> None:
    """Simulate, and write the page and its picture."""
    table = {
        (difference, mark): [share(difference, mark, seeds, clips, repeats) for seeds, clips in DESIGNS]
        for difference, mark in CASES
    }
    draw(table)
    words = {
        (0.0, "different"): "no difference, marked `*` (an error; at most 5 wanted)",
        (2.0, "different"): "2 points, marked `*`",
        (5.0, "different"): "5 points, marked `*`",
        (1.0, "equivalent"): "1 point, marked `=` within 1 point (an error; at most 5 wanted)",
        (0.0, "equivalent"): "no difference, marked `=` within 1 point",
    }
    head = "| true difference, mark | " + " | ".join(f"{seeds} seeds, {clips} clips" for seeds, clips in DESIGNS) + " |"
    lines = [
        "# How often compare errs",
        "",
        f"Made by `python workbench/docs/measured/comparison_errors.py {repeats}`: per cent of {repeats} draws of two",
        "cells in which the mark was given. Each draw makes new pre-trainings and test clips. The baseline is right",
        "on 70 % of the clips; runs of one cell differ by about 1 point, and every run has its own strengths among the",
        "clips (`tests/scoring/comparison_simulation.py`).",
        "",
        head,
        "| --- |" + " ---: |" * len(DESIGNS),
        *(
            f"| {words[case]} | " + " | ".join(f"{100 * one:.1f}" for one in values) + " |"
            for case, values in table.items()
        ),
        "",
        "![Share of draws marked different](comparison-errors.svg)",
        "",
        "What follows for a sweep: false marks are rare, also with two seeds; but with two seeds, or 400 clips and",
        "three, most differences of five points are missed, and equivalence within one point needs more than five",
        "seeds and 2,000 clips. No mark is no evidence of equality.",
    ]
    (HERE / "comparison-errors.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
