"""Schedules of a recipe that do not fit the length of its run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel

from ssl_wb.plugin.base import Duration
from ssl_wb.pretext.teacher import kept_share
from ssl_wb.recipe.load import LoadedRecipe
from ssl_wb.training.schedule import learning_rate, total_steps

__all__ = ["run_length", "schedule_warnings"]

#: Above this share of its own first weights, a teacher's targets come from random weights until the run ends.
MOSTLY_RANDOM = 0.5


def run_length(loaded: LoadedRecipe, clips: int | None) -> int | None:
    """Return the optimiser steps of a run; None where they depend on data that is not chosen yet."""
    train = loaded.recipe.train
    if clips is None and train.epochs is not None:
        return None
    return total_steps(train, clips or 0)


def schedule_warnings(loaded: LoadedRecipe, steps: int, *, has_teacher: bool) -> list[str]:
    """Return a sentence for each schedule that does not fit a run of so many steps.

    Published schedules are for hundreds of thousands of steps: a run that changes ``train.steps`` only may spend all of
    them in the warm-up, or with a teacher that stays random.

    Args:
        loaded: the recipe.
        steps: optimiser steps of the run.
        has_teacher: an EMA teacher is trained.
    """
    recipe = loaded.recipe
    found = []
    for key, duration in _durations(loaded, has_teacher=has_teacher):
        if duration <= steps:
            continue
        effect = "its schedule does not end"
        if key == "train.warmup":
            optimizer = loaded.optimizer.options
            last = learning_rate(optimizer, recipe.train, steps - 1, steps, loaded.schedule.build())
            effect = f"the learning rate ends at {100 * last / optimizer.lr:.2g} % of its peak"
        found.append(
            f"{key} = {duration} is longer than the run of {steps} steps: {effect}. Give it as a share of the run, "
            "0.0 to 1.0"
        )
    if has_teacher and recipe.teacher.init == "independent":
        kept = kept_share(recipe.teacher, steps)
        if kept > MOSTLY_RANDOM:
            found.append(
                f"teacher.decay = {recipe.teacher.decay}: after {steps} steps the teacher keeps {100 * kept:.0f} % of "
                "its own random first weights, so the targets stay those of a random network. For a short run set "
                "teacher.decay = [0.99, 0.999] and teacher.init = 'copy'"
            )
    return found


def _durations(loaded: LoadedRecipe, *, has_teacher: bool) -> Iterator[tuple[str, int]]:
    """Iterate over (key, steps) of the schedules that the recipe gives as a number of steps.

    Of ``train`` the warm-up only: a checkpoint that would be due after the end is written at the end.
    """
    tables: list[tuple[str, BaseModel]] = [("masker", loaded.masker.options), ("backbone", loaded.backbone.options)]
    tables += [(f"objective.{each.name}", each.options) for each in loaded.objectives]
    if has_teacher:
        tables.append(("teacher", loaded.recipe.teacher))
    found = [("train.warmup", loaded.recipe.train.warmup)]
    for table, options in tables:
        # pydantic keeps the type that Duration annotates.
        fields = type(options).model_fields.items()
        names = [name for name, one in fields if one.annotation == get_args(Duration)[0]]
        found += [(f"{table}.{name}", getattr(options, name)) for name in names]
    return ((key, duration) for key, duration in found if isinstance(duration, int))
