"""Embeddings as inputs of heads: standardised by the training clips, in memory or read batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_wb.plugin.evaluator import ProbeTask

__all__ = ["CLIPS_AT_ONCE", "InputScaling", "Inputs", "fit_scaler"]

#: Clips read at a time when all are gone through, to bound memory.
CLIPS_AT_ONCE = 1024


class Inputs(Protocol):
    """Inputs of n clips: a tensor ``[n, ...]``, or an object that reads them when they are indexed."""

    def __len__(self) -> int: ...

    def __getitem__(self, clips: Any, /) -> Any:
        """Return what a head is called with, for an int64 tensor of indices or a slice."""
        ...


class InputScaling:
    """Mean and standard deviation of the training clips' embeddings ``[clips, ...]``, per dimension.

    A subclass may average over something other than clips (:meth:`vectors`), or not hold all inputs in memory
    (:meth:`inputs`).

    Args:
        task: gives the embeddings.
        train: int64 indices of the clips to average over.
        standardise: False leaves the embeddings as they are.

    Attributes:
        mean: float64, the shape of one vector (of no dimension without ``standardise``).
        std: likewise; 1 where a dimension is constant.
        at_once: clips to read at a time.
    """

    def __init__(self, task: ProbeTask, train: NDArray[np.int64], standardise: bool) -> None:
        self.at_once = self.clips_at_once(task)
        self.mean, self.std = np.zeros(()), np.ones(())
        if standardise:
            # Two passes: the difference of mean square and squared mean would lose small deviations to rounding.
            self.mean = self._average(task, train, lambda values: values)
            self.std = np.sqrt(self._average(task, train, lambda values: (values - self.mean) ** 2))
            self.std[self.std <= 1e-6 * np.abs(self.mean) + 1e-12] = 1.0  # a constant dimension stays as it is

    def clips_at_once(self, task: ProbeTask) -> int:
        """Return how many clips may be read at a time."""
        return CLIPS_AT_ONCE

    def vectors(self, task: ProbeTask, clips: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return what clips add to the average, ``[m, ...]``: by default each clip's embedding."""
        return task.embeddings[clips].astype(np.float64)

    def inputs(self, task: ProbeTask, clips: NDArray[np.int64]) -> Inputs:
        """Return the scaled inputs of clips, by default a float32 tensor ``[n, ...]``."""
        inputs = torch.empty(len(clips), *task.embeddings.shape[1:])
        for first, part in self._batches(clips):
            values = task.embeddings[part].astype(np.float64)
            inputs[first : first + len(part)] = torch.from_numpy((values - self.mean) / self.std)
        return inputs

    def _batches(self, clips: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        for first in range(0, len(clips), self.at_once):
            yield first, clips[first : first + self.at_once]

    def _average(
        self, task: ProbeTask, clips: NDArray[np.int64], function: Callable[[NDArray[Any]], NDArray[Any]]
    ) -> NDArray[np.float64]:
        """Mean of a function of all vectors, in float64 without a copy of them all."""
        total, count = np.zeros(()), 0
        for _, part in self._batches(clips):
            values = self.vectors(task, part)
            total = total + function(values).sum(axis=0)
            count += len(values)
        return total / count


def fit_scaler(
    task: ProbeTask, train: NDArray[np.int64], standardise: bool
) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    """Fit scikit-learn's StandardScaler, for evaluators that compute in float64 with all clips in memory.

    Args:
        task: embeddings ``[clips, D]``.
        train: int64 indices of the clips that give mean and standard deviation.
        standardise: False leaves the embeddings as they are.

    Returns:
        A function from indices of clips to their scaled embeddings, float64 ``[n, D]``.
    """
    from sklearn.preprocessing import StandardScaler  # takes over a second, and only some probes need it

    scaler = StandardScaler(with_mean=standardise, with_std=standardise)
    scaler.fit(task.embeddings[train].astype(np.float64))
    return lambda clips: np.asarray(scaler.transform(task.embeddings[clips].astype(np.float64)))
