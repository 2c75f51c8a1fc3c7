"""Clips as trained heads see them: inputs scaled by the training clips, targets, and the loss that fits the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ssl_wb.api import ProbeTask, kind_of, score

__all__ = ["ROWS", "Inputs", "Part", "Scaling"]

#: Clips read at a time where all are gone through, to bound memory.
ROWS = 1024


class Inputs(Protocol):
    """Inputs of n clips, in memory as a tensor ``[n, ...]`` or read when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any:
        """Return what a head is called with: the clips of an int64 tensor of indices or of a slice."""
        ...


@dataclass(frozen=True)
class Part:
    """Inputs of n clips, targets float32 ``[n, C]`` and labels as in the task."""

    inputs: Inputs
    targets: Tensor
    labels: NDArray[Any]


class Scaling:
    """Mean and deviation of training inputs ``[n, ...]``, per dimension, and of numbers to regress.

    Attributes:
        mean: float64, shape of what is scaled; likewise ``std``.
        at_once: clips that may be read at a time.
        classes: outputs of a head, C; 1 for a number.
    """

    def __init__(self, task: ProbeTask, rows: NDArray[np.int64], wanted: bool) -> None:
        shape = self._shape(task)
        self.at_once = self._at_once(task)
        self.mean, self.std = np.zeros(shape), np.ones(shape)
        if wanted:
            self.mean = self._average(task, rows, lambda inputs: inputs)
            self.std = np.sqrt(self._average(task, rows, lambda inputs: (inputs - self.mean) ** 2))
            self.std[self.std <= 1e-6 * np.abs(self.mean) + 1e-12] = 1.0  # a constant dimension stays as it is
        self.kind, self.metric = kind_of(task.labels), task.metric
        self.classes = 1 if self.kind == "number" else len(task.classes)
        numbers = task.labels[rows].astype(np.float64) if self.kind == "number" else np.zeros(1)
        self.centre, self.spread = float(numbers.mean()), float(numbers.std())
        if self.spread <= 1e-12 * abs(self.centre):  # equal numbers, but for the rounding of their mean
            self.spread = 1.0

    def _shape(self, task: ProbeTask) -> tuple[int, ...]:
        """Return the shape of the mean."""
        return task.embeddings.shape[1:]

    def _at_once(self, task: ProbeTask) -> int:
        """Return how many clips may be read at a time."""
        return ROWS

    def _average(
        self, task: ProbeTask, rows: NDArray[np.int64], function: Callable[[NDArray[Any]], NDArray[Any]]
    ) -> NDArray[np.float64]:
        """Mean over clips of a function of their inputs, in float64 without a copy of them all."""
        total = np.zeros(self._shape(task))
        for first in range(0, len(rows), self.at_once):
            total += function(task.embeddings[rows[first : first + self.at_once]].astype(np.float64)).sum(axis=0)
        return total / len(rows)

    def inputs(self, task: ProbeTask, rows: NDArray[np.int64]) -> Inputs:
        """Take the inputs of clips out of the task, scaled, float32 ``[n, ...]``."""
        inputs = torch.empty(len(rows), *task.embeddings.shape[1:])
        for first in range(0, len(rows), self.at_once):
            values = task.embeddings[rows[first : first + self.at_once]].astype(np.float64)
            inputs[first : first + self.at_once] = torch.from_numpy((values - self.mean) / self.std)
        return inputs

    def part(self, task: ProbeTask, rows: NDArray[np.int64]) -> Part:
        """Take clips out of the task: inputs and targets, scaled."""
        labels = task.labels[rows]
        if self.kind == "several":
            targets = torch.from_numpy(labels).float()
        elif self.kind == "single":
            targets = functional.one_hot(torch.from_numpy(labels).long(), self.classes).float()
        else:
            targets = torch.from_numpy((labels - self.centre) / self.spread).float()[:, None]
        return Part(self.inputs(task, rows), targets, labels)

    def scores(self, logits: Tensor) -> NDArray[np.float32]:
        """Turn logits ``[n, C]`` into scores, numbers in their own unit."""
        values: NDArray[np.float32] = logits.numpy()
        return values * np.float32(self.spread) + np.float32(self.centre) if self.kind == "number" else values

    def merit(self, logits: Tensor, part: Part) -> tuple[float, float]:
        """Return score (more is better) and loss of logits ``[n, C]`` of validation clips; what diverged is worst."""
        loss = float(self.loss(logits, part.targets))
        if not np.isfinite(loss):
            return float("-inf"), float("inf")
        # A validation part without any positive has no mAP; then the loss alone chooses.
        return float(np.nan_to_num(score(part.labels, self.scores(logits), self.metric), nan=0.0)), loss

    def answers(self, logits: Tensor) -> Tensor:
        """Turn logits ``[..., C]`` into what is compared with targets: probabilities, or the number itself."""
        if self.kind == "several":
            return logits.sigmoid()
        return logits.softmax(dim=-1) if self.kind == "single" else logits

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over clips: cross-entropy, its sum over classes where several are right, or half the squared error."""
        if self.kind == "several":
            return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1).mean()
        if self.kind == "single":
            return functional.cross_entropy(logits, targets)
        return 0.5 * functional.mse_loss(logits, targets)
