"""How a run goes on that was extended after its end: from which step, and with which learning rate."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ssl_wb.errors import RunFolderError
from ssl_wb.plugin.base import steps_of
from ssl_wb.recipe.schema import TrainSection
from ssl_wb.training.schedule import LearningRate

__all__ = ["Extension"]


@dataclass(frozen=True)
class Extension:
    """What ``extended.json`` of a run folder says.

    Attributes:
        source: folder of the run that was extended.
        checkpoint: the checkpoint that this run goes on from.
        step: its optimiser steps, all that the extended run had.
        steps: optimiser steps of this run, those included.
    """

    source: str
    checkpoint: str
    step: int
    steps: int

    @classmethod
    def read(cls, path: Path) -> Extension | None:
        """Read ``extended.json``; None where the run is no extension.

        Raises:
            RunFolderError: it cannot be read.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(*(values[name] for name in cls.__dataclass_fields__))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise RunFolderError(f"{path}: cannot be read ({error!r})", hint="extend the run anew") from error

    def begins(self, data: dict[str, int], clips: int) -> bool:
        """Whether a checkpoint is the one that this run goes on from.

        Args:
            data: clips and steps that it was trained for.
            clips: of now.
        """
        return data == {"clips": clips, "steps": self.step}

    def as_json(self) -> dict[str, Any]:
        """Return the record as plain values, with the schedule in words."""
        schedule = (
            "re-warm: the schedules are those of a run of all steps, from this step on; the learning rate rises to its "
            "schedule linearly, over the recipe's warm-up of the added steps"
        )
        return {**asdict(self), "schedule": schedule}

    def learning_rate(self, schedule: LearningRate, train: TrainSection, step: int) -> float:
        """Return the rate of the update at ``step``: from the last one before, linearly up to the schedule's.

        Args:
            schedule: of a run, by step and number of steps.
            train: warm-up.
            step: optimiser steps done before.
        """
        warmup = max(1, min(steps_of(train.warmup, self.steps - self.step), self.steps - self.step))
        share = min(1.0, (step - self.step + 1) / warmup)
        last = schedule(self.step - 1, self.step)
        return last + (schedule(step, self.steps) - last) * share
