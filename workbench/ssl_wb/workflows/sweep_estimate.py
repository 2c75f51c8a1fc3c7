"""What a sweep would take: steps, time, memory and disk of every run, for ``ssl-wb sweep --dry-run``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ssl_wb.bench.timed_trainer import Entry, TimedTrainer
from ssl_wb.errors import WorkbenchError
from ssl_wb.pretext.plan import Plan
from ssl_wb.recipe.load import LoadedRecipe
from ssl_wb.recipe.schema import TrainSection
from ssl_wb.report.layout import Layout
from ssl_wb.runs.device import best_device, mixed_precision
from ssl_wb.sweep.load import Changes, load_sweep
from ssl_wb.sweep.state import Progress, progress_of
from ssl_wb.training.memory import free_bytes
from ssl_wb.workflows.preflight import Preflight
from ssl_wb.workflows.schedule_check import run_length
from ssl_wb.workflows.sweep import check_cells, default_sweep_folder, distinct

__all__ = ["RunEstimate", "SweepEstimate", "estimate_sweep"]

#: Operations of a measured step, at most: about a second on two cores.
GFLOP = 100.0
#: Clips of a measured step, at most.
CLIPS = 16
#: Measured steps, after one that warms up.
REPEATS = 3


@dataclass(frozen=True)
class RunEstimate:
    """What one run takes.

    Attributes:
        name: of the run.
        state: how far it is.
        step: steps done, by its last checkpoint.
        steps: of the run; None where they depend on data that is not chosen.
        seconds: of what is left, training only.
        memory_bytes: of a step on one process.
        disk_bytes: of its checkpoints.
    """

    name: str
    state: str
    step: int
    steps: int | None
    seconds: float | None
    memory_bytes: int
    disk_bytes: int


@dataclass(frozen=True)
class SweepEstimate:
    """What a sweep takes.

    Attributes:
        runs: in the order in which they are trained.
        workers: runs at a time.
        device: where they are trained.
        notes: how the figures were made.
    """

    runs: list[RunEstimate]
    workers: int
    device: str
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float | None:
        """Time of what is left, all workers busy; None where steps are not known."""
        known = [one.seconds for one in self.runs if one.seconds is not None]
        return sum(known) / self.workers if len(known) == len(self.runs) else None

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "runs": [asdict(one) for one in self.runs],
            "workers": self.workers,
            "device": self.device,
            "seconds": self.seconds,
            "disk_bytes": sum(one.disk_bytes for one in self.runs),
            "notes": self.notes,
        }

    def layout(self) -> Layout:
        """Return the table."""
        rows = [
            [
                one.name,
                one.state if not one.step else f"{one.state}, step {one.step}",
                "?" if one.steps is None else str(one.steps),
                "?" if one.seconds is None else duration(one.seconds),
                size(one.memory_bytes),
                size(one.disk_bytes),
            ]
            for one in self.runs
        ]
        total = "?" if self.seconds is None else duration(self.seconds)
        largest = max(one.memory_bytes for one in self.runs)
        disk = sum(one.disk_bytes for one in self.runs)
        rows.append([f"all {len(self.runs)} runs", "", "", total, size(self.workers * largest), size(disk)])
        return Layout(["run", "state", "steps", f"time on {self.device}", "memory", "disk"], rows, self.notes)


def estimate_sweep(
    name_or_path: str | Path,
    *,
    changes: Changes | None = None,
    out: Path | None = None,
    workers: int = 1,
    cpu: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> SweepEstimate:
    """Estimate what a sweep takes, and train nothing. Every recipe is checked; data need not be chosen yet.

    Arguments and errors are those of :func:`ssl_wb.workflows.sweep.run_sweep`.
    """
    sweep = load_sweep(name_or_path, changes)
    folder = out if out is not None else default_sweep_folder(sweep.path)
    checked = check_cells(sweep, say, data=False)
    device = best_device(cpu=cpu)
    speeds: dict[str, float | None] = {}
    for number, cell in enumerate(cells := distinct(sweep), 1):
        say(f"timing steps of {number} of {len(cells)} recipes: {cell.group}")
        speeds[cell.group] = clip_seconds(cell.recipe, checked[cell.group].plan, device)
    runs = []
    for cell in sweep.cells:
        progress = progress_of(folder / cell.name, probes=len(cell.recipe.evaluators))
        runs.append(_run(cell.name, cell.recipe, checked[cell.group], speeds[cell.group], progress, device))
    return SweepEstimate(runs, workers, device.type, _notes(runs, workers))


def _run(
    name: str,
    loaded: LoadedRecipe,
    checked: Preflight,
    per_clip: float | None,
    progress: Progress,
    device: torch.device,
) -> RunEstimate:
    train, plan = loaded.recipe.train, checked.plan
    steps = run_length(loaded, checked.count)
    half = mixed_precision(train.precision, device) != "no"
    clips = 1 if train.searched else train.batch_size // train.passes()
    memory = plan.memory_bytes(clips, half=half, loss_clips=train.batch_size if train.micro_batch else None)
    trained = sum(plan.parameters.values())
    checkpoint = 4 * (trained + plan.teacher_parameters) + 8 * trained  # weights, and both moments of the optimiser
    left = None if steps is None else max(0, steps - progress.step)
    seconds = None if left is None or per_clip is None else left * train.batch_size * per_clip
    # The newest ones and the best one.
    disk = checkpoint * (train.keep_checkpoints + 1)
    return RunEstimate(name, progress.state.value, progress.step, steps, seconds, memory, disk)


def clip_seconds(loaded: LoadedRecipe, plan: Plan, device: torch.device) -> float | None:
    """Measure the training time of one clip, by a few steps of few clips of noise; None where a step does not fit.

    Args:
        loaded: the recipe.
        plan: its sizes.
        device: where.
    """
    train = loaded.recipe.train
    clips = max(2, min(CLIPS, train.batch_size, int(GFLOP / max(plan.gflop_per_clip, 1e-9))))
    small = train.model_copy(update={"batch_size": clips, "accumulate": 1, "micro_batch": None})
    one = Entry("measured", _with_train(loaded, small))
    free = free_bytes(device)
    half = mixed_precision(train.precision, device) != "no"
    if free is not None and one.plan.memory_bytes(clips, half=half) > 0.9 * free:
        return None
    try:
        trainer = TimedTrainer(one, device)
        trainer.warm_up(1)
        for _ in range(REPEATS):
            trainer.measure()
    except WorkbenchError:  # kernels or precision of another machine
        return None
    return min(trainer.step_seconds) / clips


def _with_train(loaded: LoadedRecipe, train: TrainSection) -> LoadedRecipe:
    return replace(loaded, recipe=loaded.recipe.model_copy(update={"train": train}))


def _notes(runs: list[RunEstimate], workers: int) -> list[str]:
    notes = [
        f"Time: training only, measured here by {REPEATS} steps of at most {CLIPS} clips of noise for each recipe, "
        "without reading audio, augmentation, checkpoints and probes; larger batches and idle machines are faster."
    ]
    if workers > 1:
        notes.append(f"{workers} runs at a time: the total assumes that they do not slow each other down.")
    notes.append("Memory: estimate for one process. Disk: checkpoints, without embeddings that probes keep.")
    if any(one.steps is None for one in runs):
        notes.append("Steps depend on the number of clips: choose data with --set data.train=FOLDER.")
    elif any(one.seconds is None for one in runs):
        notes.append("Time is not known where a step does not fit into the memory of this machine.")
    return notes


def duration(seconds: float) -> str:
    """Write a time in the unit that fits."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def size(count: float) -> str:
    """Write a number of bytes in the unit that fits."""
    for unit, power in (("TiB", 4), ("GiB", 3)):
        if count >= 1024**power:
            return f"{count / 1024**power:.1f} {unit}"
    return f"{count / 2**20:.0f} MiB"
