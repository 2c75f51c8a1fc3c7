"""A recipe's trainer, whose steps on noise or on the recipe's clips are measured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch.profiler import ProfilerActivity, profile

from ssl_wb.bench.inputs import build_inputs
from ssl_wb.bench.matmul_peak import MatmulPeak
from ssl_wb.bench.parts import part_seconds
from ssl_wb.bench.peak_memory import PeakMemory
from ssl_wb.data.dataset import CropDataset
from ssl_wb.layers.parts import recorded_parts, wait_for_device
from ssl_wb.pretext.build import build_model
from ssl_wb.pretext.plan import Plan, make_plan
from ssl_wb.recipe.load import LoadedRecipe
from ssl_wb.recipe.schema import Recipe
from ssl_wb.runs.device import mixed_precision
from ssl_wb.runs.folder import RunFolder
from ssl_wb.training.engine import build_accelerator
from ssl_wb.training.loop import Trainer
from ssl_wb.training.reporting import SilentReporter
from ssl_wb.training.schedule import LearningRate

__all__ = ["PROGRESS", "Entry", "TimedTrainer"]

#: Every step is measured half way through a run, where no schedule is at its start or end.
PROGRESS = 0.5
_TOTAL_STEPS = 1000
#: Next to nothing: after hundreds of steps on noise at a real learning rate, weights could be infinite or NaN.
_LEARNING_RATE = 1e-9


@dataclass(frozen=True)
class Entry:
    """What is to be measured.

    Attributes:
        name: in tables.
        loaded: the recipe.
        size: place on the axis of a scaling curve; None elsewhere.
    """

    name: str
    loaded: LoadedRecipe
    size: float | None = None
    plan: Plan = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "plan", make_plan(self.loaded))

    @property
    def micro_batch(self) -> int:
        """Clips of one forward pass."""
        return self.loaded.recipe.train.batch_size // self.loaded.recipe.train.passes()


def _quiet(recipe: Recipe) -> Recipe:
    """Return a recipe whose steps are never logged and hardly move the weights; nothing else about them differs."""
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"log_every": 10 * _TOTAL_STEPS})})


class TimedTrainer:
    """A recipe's trainer, and what was measured of its steps.

    Args:
        entry: what to measure.
        device: where.
        real: feed it the clips of ``data.train``, where that names some.

    Attributes:
        step_seconds: of each measured step.
        split_seconds: of each step whose parts were profiled.
        parts_seconds: of each such step, its parts and the rest.
        recompiled: graphs that torch.compile made in measured steps; None where the recipe compiles nothing.
    """

    def __init__(self, entry: Entry, device: torch.device, *, real: bool = False) -> None:
        self.entry = entry
        self.device = device
        self.peak = PeakMemory(device)
        self.peak_bytes: int | None = None
        recipe = entry.loaded.recipe
        self.precision = mixed_precision(recipe.train.precision, device)
        accelerator = build_accelerator(self.precision, device)  # joins the process group, which the inputs need
        model = build_model(entry.loaded, _TOTAL_STEPS)
        inputs = build_inputs(entry.loaded, model, real=real)
        self.source = inputs.source
        self._batches = inputs.batches
        optimizer = entry.loaded.optimizer.with_options(lr=_LEARNING_RATE, min_lr=0.0)
        self.trainer = Trainer(
            recipe=_quiet(recipe),
            optimizer=optimizer,
            learning_rate=LearningRate(optimizer.options, recipe.train),
            folder=RunFolder(Path("bench")),  # never written: no step is logged, no checkpoint due
            model=model,
            front_end=inputs.front_end,
            dataset=cast(CropDataset, ()),
            accelerator=accelerator,
            reporter=SilentReporter(),
            steps=_TOTAL_STEPS,
        )
        self.trainer.model.train()
        self.matmul_peak = MatmulPeak(
            entry.micro_batch * (model.shapes.grid.cells + model.backbone.prefix_tokens),
            model.backbone.dim,
            self.precision,
            device,
        )
        self.step_seconds: list[float] = []
        self.split_seconds: list[float] = []
        self.parts_seconds: list[dict[str, float]] = []
        self.recompiled: int | None = 0 if recipe.train.compile else None

    def step(self) -> float:
        """Do one optimiser step, the same one every time, and return its seconds."""
        self.trainer.step = round(PROGRESS * _TOTAL_STEPS)
        wait_for_device(self.device)
        began = time.perf_counter()
        self.trainer.update(self._batches)
        wait_for_device(self.device)
        return time.perf_counter() - began

    def warm_up(self, steps: int) -> None:
        """Do steps that do not count and note the peak memory."""
        for _ in range(steps):
            self.step()
        self.peak_bytes = self.peak.read()

    def measure(self) -> None:
        """Time one step."""
        with self._counting():
            self.step_seconds.append(self.step())

    def measure_parts(self) -> None:
        """Time one step and its parts."""
        with self._counting(), recorded_parts(self.device), profile(activities=[ProfilerActivity.CPU]) as profiler:
            whole = self.step()
        self.split_seconds.append(whole)
        self.parts_seconds.append(part_seconds(profiler.events() or (), whole))

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Count the graphs that torch.compile makes inside."""
        if self.recompiled is None:
            yield
            return
        from torch._dynamo.utils import counters

        before = counters["stats"]["unique_graphs"]
        yield
        self.recompiled += counters["stats"]["unique_graphs"] - before

    def facts(self) -> dict[str, Any]:
        """Return what is measured, as plain values."""
        loaded = self.entry.loaded
        return {
            "name": self.entry.name,
            "recipe": str(loaded.path),
            "title": loaded.recipe.title,
            "overrides": list(loaded.overrides),
            "masker": loaded.masker.written(),
            "backbone": loaded.backbone.written(),
            "batch_clips": loaded.recipe.train.batch_size,
            "accumulate": loaded.recipe.train.accumulate,
            "clip_seconds": loaded.recipe.data.clip_seconds,
            "precision": "fp32" if self.precision == "no" else self.precision,
            "data": self.source,
        }
