"""What the training loop keeps from step to step, and what it calls for probes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

__all__ = ["Probes", "StepResult", "Window"]


@dataclass
class Window:
    """Sums since the last logged line and since the last checkpoint; a checkpoint holds them, for the resumed run."""

    loss: float = 0.0
    steps: int = 0
    checkpoint_loss: float = 0.0
    checkpoint_steps: int = 0
    best_loss: float = math.inf
    best_probe: float = -math.inf


@dataclass(frozen=True)
class StepResult:
    """Loss and gradient norm of a step, left on the device: reading a number of a GPU waits for it."""

    step: int  # optimiser steps done, this one included
    loss: Tensor
    norm: Tensor


class Probes(Protocol):
    """Scores the encoder during training; only the main process calls it."""

    def due(self, step: int) -> bool:
        """Whether to call it after ``step`` optimiser steps."""

    def __call__(self, weights: Mapping[str, Tensor], step: int) -> tuple[dict[str, float], float | None]:
        """Return scores by name and the selection score, higher is better, of a backbone's weights by name."""
