"""Number of steps of a run, and its learning rate."""

from __future__ import annotations

import math

from ssl_wb.layers.schedules import warmup_cosine
from ssl_wb.plugin.base import steps_of
from ssl_wb.plugin.contract_checks import check_share
from ssl_wb.plugin.optimiser import OptimiserOptions
from ssl_wb.plugin.schedule import Schedule
from ssl_wb.recipe.schema import TrainSection

__all__ = ["LearningRate", "learning_rate", "total_steps"]


def total_steps(section: TrainSection, clips: int) -> int:
    """Return the optimiser steps of a run over ``clips`` clips; an incomplete batch at the end counts as a step."""
    if section.steps is not None:
        return section.steps
    samples = section.samples if section.samples is not None else (section.epochs or 0.0) * clips
    return max(1, math.ceil(samples / section.batch_size))


def learning_rate(
    optimizer: OptimiserOptions, train: TrainSection, step: int, steps: int, schedule: Schedule | None = None
) -> float:
    """Return the learning rate of the update at ``step`` (0-based): linear warm-up, then the schedule.

    Args:
        optimizer: peak and final rate.
        train: warm-up.
        step: optimiser steps done before this one.
        steps: optimiser steps of the run.
        schedule: what follows the warm-up; half a cosine unless given.

    Raises:
        PluginError: the schedule gives no share.
    """
    warmup = steps_of(train.warmup, steps)
    if schedule is None or step < warmup:
        return warmup_cosine(step, steps, warmup, peak=optimizer.lr, last=optimizer.min_lr)
    share = check_share(schedule, min(1.0, (step - warmup) / max(1, steps - warmup)))
    return optimizer.min_lr + (optimizer.lr - optimizer.min_lr) * share


class LearningRate:
    """The learning rate of a run's steps.

    Args:
        optimizer: peak and final rate.
        train: warm-up.
        schedule: what follows the warm-up; half a cosine unless given.
    """

    def __init__(self, optimizer: OptimiserOptions, train: TrainSection, schedule: Schedule | None = None) -> None:
        self._optimizer, self._train, self._schedule = optimizer, train, schedule

    def __call__(self, step: int, steps: int) -> float:
        """Return the rate of the update at ``step`` (0-based) of ``steps``."""
        return learning_rate(self._optimizer, self._train, step, steps, self._schedule)
