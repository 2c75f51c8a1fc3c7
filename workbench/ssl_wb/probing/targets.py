"""Labels as training targets, with the loss and the score that fit them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ssl_wb.plugin.evaluator import ProbeTask
from ssl_wb.scoring.metrics import kind_of, score

__all__ = ["Targets"]


class Targets:
    """What a head is trained to predict.

    One class per clip: one-hot targets and the cross-entropy. Several labels: 0 and 1, and the binary cross-entropy,
    summed over classes. A number: its z-score among the training clips, and half the squared error.

    Args:
        task: gives the labels.
        train: int64 indices of the training clips, which give a number's mean and standard deviation.

    Attributes:
        kind: ``single``, ``several`` or ``number``.
        outputs: outputs of a head, C: the classes, or 1 for a number.
    """

    def __init__(self, task: ProbeTask, train: NDArray[np.int64]) -> None:
        self.kind, self._metric = kind_of(task.labels), task.metric
        self.outputs = 1 if self.kind == "number" else len(task.classes)
        numbers = task.labels[train].astype(np.float64) if self.kind == "number" else np.zeros(1)
        self._mean, self._std = float(numbers.mean()), float(numbers.std())
        # Equal numbers have a deviation that is the rounding of their mean: dividing by it would give huge targets.
        if self._std <= 1e-12 * abs(self._mean):
            self._std = 1.0

    def of(self, labels: NDArray[Any]) -> Tensor:
        """Return targets, float32 ``[n, C]``, of labels as they are in the task, ``[n]`` or ``[n, C]``."""
        if self.kind == "several":
            return torch.from_numpy(labels).float()
        if self.kind == "single":
            return functional.one_hot(torch.from_numpy(labels).long(), self.outputs).float()
        return torch.from_numpy((labels - self._mean) / self._std).float()[:, None]

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of logits and targets ``[n, C]``, mean over clips."""
        if self.kind == "several":
            # A sum over classes, not their mean: a learning rate then suits tasks of few and of many classes.
            return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1).mean()
        if self.kind == "single":
            return functional.cross_entropy(logits, targets)
        return 0.5 * functional.mse_loss(logits, targets)

    def predictions(self, logits: Tensor) -> Tensor:
        """Turn logits ``[..., C]`` into what targets are compared with: probabilities, or the z-score itself.

        The gradient of all three losses with respect to the logits is ``(predictions - targets) / n``.
        """
        if self.kind == "several":
            return logits.sigmoid()
        return logits.softmax(dim=-1) if self.kind == "single" else logits

    def scores(self, logits: Tensor) -> NDArray[np.float32]:
        """Turn logits ``[n, C]`` into scores for :func:`ssl_wb.api.summarise`: numbers in the unit of the labels."""
        values: NDArray[np.float32] = logits.numpy()
        return values * np.float32(self._std) + np.float32(self._mean) if self.kind == "number" else values

    def validate(self, logits: Tensor, targets: Tensor, labels: NDArray[Any]) -> tuple[float, float]:
        """Score validation clips in the task's metric.

        Args:
            logits: ``[n, C]``.
            targets: ``[n, C]``, from :meth:`of`.
            labels: as in the task, ``[n]`` or ``[n, C]``.

        Returns:
            Score, higher is better, and loss. A head that diverged has minus infinity and infinity.
        """
        loss = float(self.loss(logits, targets))
        if not np.isfinite(loss):
            return float("-inf"), float("inf")
        # Validation clips without any positive have no mAP (NaN); equal scores then leave the choice to the loss.
        return float(np.nan_to_num(score(labels, self.scores(logits), self._metric), nan=0.0)), loss
