"""Prints the table of workbench/docs/faithfulness.md: ``python tests/reference/differences.py``; takes half a minute.

A cell is the largest difference between ours and what the released code computed, relative as in released_code.py.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

import released_code
import released_time_major

PARTS = ("positions", "encoder", "predictor", "target", "loss", "gradients", "step", "EMA")
SYSTEMS = (
    *(released_code.m2d, released_code.msm_mae, released_code.msm_mae_first, released_code.m2d_clap),
    *(released_time_major.audiomosaic, released_time_major.eat),
)


def main() -> None:
    """Write a Markdown table to stdout."""
    torch.set_num_threads(1)
    print("| system | " + " | ".join(PARTS) + " |")
    print("| --- " * (len(PARTS) + 1) + "|")
    for system in SYSTEMS:
        largest: dict[str, float] = defaultdict(float)
        for value in system():
            largest[value.part] = max(largest[value.part], value.difference())
        cells = [f"{largest[part]:.1e}" if part in largest else "" for part in PARTS]
        print(f"| {value.system} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
