"""A group of processes that is measured: ``python -m ssl_wb.bench.worker SIZE RECIPE DEVICE WARMUP PORT``.

Started once, it launches SIZE processes of itself. Each answers once it is warm; then, for every order ``step``, all do
a step together and answer with its seconds, until they are told to leave.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from torch import distributed as dist

from ssl_wb.bench.timed_trainer import Entry, TimedTrainer
from ssl_wb.errors import WorkbenchError
from ssl_wb.layers.processes import process_place
from ssl_wb.recipe.load import load_recipe
from ssl_wb.runs.device import best_device
from ssl_wb.training.launch import Machines, is_launched, launch, run_recorded

__all__ = ["main"]

#: How long a process waits for its next order: other groups have their turns meanwhile.
_WAIT = timedelta(days=1)


def main(size: int, recipe: Path, device: str, warmup: int, port: int) -> None:
    """Launch the group, or be one of its processes; a group of one is a process that nobody launched."""
    if size > 1 and not is_launched():
        launch(sys.argv[1:], Machines(size), module="ssl_wb.bench.worker")
        return
    store = dist.TCPStore("127.0.0.1", port, is_master=False, timeout=_WAIT)
    trainer = TimedTrainer(Entry(recipe.stem, load_recipe(recipe)), best_device(cpu=device == "cpu"))
    trainer.warm_up(warmup)
    rank, world = process_place()
    answer, number = 0.0, 0
    while True:
        store.set(f"{size}/answer/{number}/{rank}", str(answer))
        number += 1
        if store.get(f"{size}/order/{number}") == b"leave":  # waits until it is there
            break
        if world > 1:
            dist.barrier()  # the clock starts when all are there
        answer = trainer.step()
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    given = sys.argv[1:]
    try:
        run_recorded(lambda: main(int(given[0]), Path(given[1]), given[2], int(given[3]), int(given[4])))
    except WorkbenchError as error:
        sys.exit(error.message)
