"""One process of a group that is measured: ``python -m ssl_wb.bench.worker RECIPE DEVICE WARMUP``.

It says that it is warm; then, for every line on stdin, it does a step with the others and says the seconds. The end of
stdin is the word to leave.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

from torch import distributed as dist

from ssl_wb.bench.processes import READY
from ssl_wb.bench.timed_trainer import Entry, TimedTrainer
from ssl_wb.errors import WorkbenchError
from ssl_wb.layers.processes import process_place
from ssl_wb.recipe.load import load_recipe
from ssl_wb.runs.device import best_device

__all__ = ["main"]


def main(recipe: Path, device: str, warmup: int) -> None:
    """Step when told to, until stdin ends."""
    pipe = _own_pipe()

    def say(line: str) -> None:
        pipe.write(f"{line}\n")
        pipe.flush()

    trainer = TimedTrainer(Entry(recipe.stem, load_recipe(recipe)), best_device(cpu=device == "cpu"))
    trainer.warm_up(warmup)
    _, world = process_place()
    say(READY)
    for _ in sys.stdin:
        if world > 1:
            dist.barrier()  # the clock starts when all are there
        say(str(trainer.step()))
    if world > 1:
        dist.destroy_process_group()


def _own_pipe() -> TextIO:
    """Keep stdout for the answers, and send all else that is written there (a library's version, say) to stderr."""
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return pipe


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    except WorkbenchError as error:
        sys.exit(error.message)
