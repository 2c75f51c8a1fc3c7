"""A sweep of tiny runs, and an executor that trains in this process."""

from __future__ import annotations

from pathlib import Path

from ssl_wb.cli.main import run
from ssl_wb.sweep.executor import Job

#: Two maskers, on a model of one block and a few short scenes.
TINY = """
title = "two maskers"
base = "quickstart"
seeds = [0, 1]
baseline = { masker = "random" }

[set]
data = { scenes = { clips = 40, seconds = 1.2 }, workers = 0 }
backbone = { dim = 16, depth = 1, heads = 1 }
front_end = { mean = -8.0, std = 3.0 }
predictor = { dim = 16, depth = 1, heads = 1 }
train = { steps = 6, batch_size = 4, log_every = 1, checkpoint_every = 2 }
evaluate = []

[[axis]]
key = "masker"
values = [{ name = "random", ratio = 0.7 }, { name = "dwm", ratio = 0.7 }]
"""


def write(folder: Path, text: str = TINY) -> Path:
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return path


class HereExecutor:
    """Runs jobs one after the other in this process, as the command would."""

    def __init__(self) -> None:
        self.done: list[tuple[Job, int]] = []
        self.started: list[Job] = []

    def submit(self, job: Job) -> None:
        self.started.append(job)
        job.log.parent.mkdir(parents=True, exist_ok=True)
        job.log.touch()
        self.done.append((job, run(list(job.words))))

    def wait(self, seconds: float) -> tuple[Job, int] | None:
        return self.done.pop(0) if self.done else None

    def stop(self) -> list[tuple[Job, int]]:
        ended, self.done = self.done, []
        return ended
