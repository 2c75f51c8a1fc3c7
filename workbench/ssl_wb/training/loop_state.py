"""What the training loop keeps from step to step, and what it calls for probes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

__all__ = ["Probes", "Window"]


@dataclass
class Window:
    """Sums since the last logged line and since the last checkpoint; a checkpoint holds them, for the resumed run."""

    loss: float = 0.0
    steps: int = 0
    checkpoint_loss: float = 0.0
    checkpoint_steps: int = 0
    best_loss: float = math.inf
    best_probe: float = -math.inf

    def add(self, loss: float) -> None:
        """Add the loss of a step."""
        self.loss += loss
        self.steps += 1
        self.checkpoint_loss += loss
        self.checkpoint_steps += 1

    def lowest_of_checkpoints(self) -> bool:
        """End the sum of a checkpoint, and return whether its mean is the lowest so far; it is not without steps."""
        mean = self.checkpoint_loss / self.checkpoint_steps if self.checkpoint_steps else math.inf
        lowest = mean < self.best_loss
        self.best_loss = min(mean, self.best_loss)
        self.checkpoint_loss, self.checkpoint_steps = 0.0, 0
        return lowest


class Probes(Protocol):
    """Scores the encoder during training; only the main process calls it."""

    def due(self, step: int) -> bool:
        """Whether to call it after ``step`` optimiser steps."""

    def __call__(self, weights: Mapping[str, Tensor], step: int) -> tuple[dict[str, float], float | None]:
        """Return scores by name and the selection score, higher is better, of a backbone's weights by name."""
