"""One recipe, ready to do training steps: the real trainer on noise or on the recipe's clips."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from ssl_wb.bench.clock import REST, PartsClock, TimedMasker, wait_for_device
from ssl_wb.bench.inputs import build_inputs
from ssl_wb.bench.matmul_peak import MatrixRate
from ssl_wb.bench.peak_memory import PeakMemory
from ssl_wb.data.dataset import CropDataset
from ssl_wb.plugin.masker import Masker
from ssl_wb.pretext.build import build_model
from ssl_wb.pretext.plan import Plan, make_plan
from ssl_wb.recipe.load import LoadedRecipe
from ssl_wb.recipe.schema import Recipe
from ssl_wb.runs.device import mixed_precision
from ssl_wb.runs.folder import RunFolder
from ssl_wb.training.engine import build_accelerator
from ssl_wb.training.loop import Trainer
from ssl_wb.training.reporting import SilentReporter

__all__ = ["PROGRESS", "Contestant", "Entry"]

#: Every step is measured half way through a run, where no schedule is at its start or end.
PROGRESS = 0.5
_TOTAL_STEPS = 1000
#: Weights stay where they are: hundreds of steps on noise at a real rate could end in values that are no numbers.
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


class Contestant:
    """A recipe's trainer, its clock, and what was measured of it.

    Args:
        entry: what to measure.
        device: where.
        real: feed it the clips of ``data.train``, where that names some.

    Attributes:
        step_seconds: of each measured step, the clock off.
        split_seconds: of each step with the clock on.
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
        accelerator = build_accelerator(self.precision, device)  # from here on processes know of each other
        model = build_model(entry.loaded, _TOTAL_STEPS)
        inputs = build_inputs(entry.loaded, model, real=real)
        self.source = inputs.source
        self.trainer = Trainer(
            recipe=_quiet(recipe),
            optimizer=entry.loaded.optimizer.with_options(lr=_LEARNING_RATE, min_lr=0.0),
            folder=RunFolder(Path("bench")),  # never written: no step is logged, no checkpoint due
            model=model,
            front_end=inputs.front_end,
            dataset=cast(CropDataset, ()),
            accelerator=accelerator,
            reporter=SilentReporter(),
            steps=_TOTAL_STEPS,
        )
        self.trainer.model.train()
        self.clock = PartsClock(device)
        self._batches = self.clock.watch_items(inputs.batches, "data")
        self._watch()
        self.rate = MatrixRate(
            entry.micro_batch * (model.shapes.grid.cells + model.backbone.prefix_tokens),
            model.backbone.dim,
            self.precision,
            device,
        )
        self.step_seconds: list[float] = []
        self.split_seconds: list[float] = []
        self.parts_seconds: list[dict[str, float]] = []
        self.recompiled: int | None = 0 if recipe.train.compile else None

    def _watch(self) -> None:
        """Put the clock on every part of the step."""
        trainer, clock, model = self.trainer, self.clock, self.trainer.plain_model
        clock.watch(trainer.front_end, "forward", "front end")
        model.masker = cast(Masker, TimedMasker(model.masker, clock))
        clock.watch(model.backbone, "forward", "student")
        clock.watch(model.backbone, "pool", "student")
        # The teacher shares the student's embedding, and runs without gradient.
        clock.watch(model.backbone, "embed", lambda: "student" if torch.is_grad_enabled() else "teacher")
        if model.teacher is not None:
            for method in ("forward", "layers", "layers_and_mlp_outputs", "final_norm"):
                clock.watch(model.teacher, method, "teacher")
        if model.predictor is not None:
            clock.watch(model.predictor, "forward", "predictor")
        for objective in model.objectives.values():
            clock.watch(objective, "forward", "objectives")
        clock.watch(trainer.accelerator, "backward", "backward")
        clock.watch(trainer.accelerator, "clip_grad_norm_", "clipping")
        clock.watch(trainer.optimizer, "step", "optimiser")
        clock.watch(trainer.optimizer, "zero_grad", "optimiser")
        clock.watch(model, "after_step", "EMA")

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
        with self._counting(), self.clock.step():
            whole = self.step()
        parts = dict(self.clock.seconds)
        parts[REST] = whole - sum(parts.values())
        self.split_seconds.append(whole)
        self.parts_seconds.append(parts)

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Count graphs compiled meanwhile."""
        if self.recompiled is None:
            yield
            return
        from torch._dynamo.utils import counters

        before = counters["stats"]["unique_graphs"]
        yield
        self.recompiled += counters["stats"]["unique_graphs"] - before

    def facts(self) -> dict[str, Any]:
        """Return what it is, as plain values."""
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
