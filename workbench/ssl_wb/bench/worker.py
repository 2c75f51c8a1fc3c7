"""One process of a group that is measured: ``python -m ssl_wb.bench.worker RECIPE DEVICE WARMUP``.

It says that it is warm; then, for every line on stdin, it does a step with the others and says the seconds. The end of
stdin is the word to leave.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import distributed as dist

from ssl_wb.bench.contestant import Contestant, Entry
from ssl_wb.bench.processes import READY
from ssl_wb.errors import WorkbenchError
from ssl_wb.layers.processes import process_place
from ssl_wb.recipe.load import load_recipe
from ssl_wb.train.precision import best_device

__all__ = ["main"]


def main(recipe: Path, device: str, warmup: int) -> None:
    """Step when told to, until stdin ends."""
    contestant = Contestant(Entry(recipe.stem, load_recipe(recipe)), best_device(cpu=device == "cpu"))
    contestant.warm_up(warmup)
    _, world = process_place()
    _say(READY)
    for _ in sys.stdin:
        if world > 1:
            dist.barrier()  # the clock starts when all are there
        _say(str(contestant.step()))
    if world > 1:
        dist.destroy_process_group()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    except WorkbenchError as error:
        sys.exit(error.message)
