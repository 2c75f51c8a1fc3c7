"""Number of steps of a run, and its learning rate."""

from __future__ import annotations

import math

from ssl_wb.layers.schedules import warmup_cosine
from ssl_wb.plugin.base import steps_of
from ssl_wb.plugin.optimiser import OptimiserOptions
from ssl_wb.recipe.schema import TrainSection

__all__ = ["learning_rate", "total_steps"]


def total_steps(section: TrainSection, clips: int) -> int:
    """Return the optimiser steps of a run over ``clips`` clips; an incomplete batch at the end counts as a step."""
    if section.steps is not None:
        return section.steps
    samples = section.samples if section.samples is not None else (section.epochs or 0.0) * clips
    return max(1, math.ceil(samples / section.batch_size))


def learning_rate(optimizer: OptimiserOptions, train: TrainSection, step: int, steps: int) -> float:
    """Return the learning rate of the update at ``step`` (0-based): linear warm-up, then half a cosine to ``min_lr``.

    Args:
        optimizer: peak and final rate.
        train: warm-up.
        step: optimiser steps done before this one.
        steps: optimiser steps of the run.
    """
    warmup = steps_of(train.warmup, steps)
    return warmup_cosine(step, steps, warmup, peak=optimizer.lr, last=optimizer.min_lr)
