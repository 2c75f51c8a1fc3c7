"""What probes with a trained head share: scaling, training, and a choice that sees validation clips only."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ssl_wb.api import DataError, Field, PluginOptions, ProbeTask, Split, kind_of, score

__all__ = ["Build", "Decays", "Head", "HeadOptions", "Rates", "Scaling", "Trained", "listed", "parts_of", "train_head"]

Rate = Annotated[float, Field(gt=0.0)]
Decay = Annotated[float, Field(ge=0.0)]
Rates = Rate | Annotated[list[Rate], Field(min_length=1)]
Decays = Decay | Annotated[list[Decay], Field(min_length=1)]

#: Clips read at a time where all are gone through, to bound memory.
ROWS = 1024


class HeadOptions(PluginOptions):
    """What every trained head can be told."""

    batch_size: int = Field(200, ge=1, description="Clips per step, at most the clips there are.")
    epochs: int = Field(200, ge=1, description="Passes over the training clips, at most.")
    patience: int | None = Field(
        None,
        ge=1,
        description="Stop after so many epochs without a better validation score and keep the best epoch; all epochs "
        "are trained and the last one is kept unless given.",
    )
    standardise: bool = Field(True, description="Scale every dimension to mean 0 and variance 1 of the training clips.")
    refit: Literal["held-out", "always", "never"] = Field(
        "held-out",
        description="Train again on training and validation clips with the settings and epochs chosen: where "
        "the workbench itself held the validation clips out of the training part, always, or never.",
    )
    resamples: int = Field(1000, ge=100, description="Bootstrap resamples of the interval; a fifth for mAP.")


class Head(nn.Module):
    """A trained head: inputs ``[n, ...]`` to logits ``[n, C]`` (a number to regress: ``[n, 1]``)."""

    def groups(self, point: dict[str, Any]) -> list[dict[str, Any]]:
        """Return Adam's parameter groups: matrices are decayed, vectors are not.

        Args:
            point: a grid point, with ``lr`` and perhaps ``weight_decay``.
        """
        matrices = [parameter for parameter in self.parameters() if parameter.dim() > 1]
        vectors = [parameter for parameter in self.parameters() if parameter.dim() <= 1]
        return [
            {"params": matrices, "lr": point["lr"], "weight_decay": point.get("weight_decay", 0.0)},
            {"params": vectors, "lr": point["lr"]},
        ]


#: Builds a head from a grid point, the shape of one clip's input and the number of outputs.
Build = Callable[[dict[str, Any], torch.Size, int], Head]


class Scaling:
    """Mean and deviation of training inputs ``[n, ...]``, per dimension, and of numbers to regress."""

    def __init__(self, task: ProbeTask, rows: NDArray[np.int64], wanted: bool) -> None:
        shape = task.embeddings.shape[1:]
        self.mean, self.std = np.zeros(shape), np.ones(shape)
        if wanted:
            self.mean = self._average(task, rows, lambda inputs: inputs)
            self.std = np.sqrt(self._average(task, rows, lambda inputs: (inputs - self.mean) ** 2))
            self.std[self.std <= 1e-6 * np.abs(self.mean) + 1e-12] = 1.0  # a constant dimension stays as it is
        self.kind = kind_of(task.labels)
        self.classes = 1 if self.kind == "number" else len(task.classes)
        numbers = task.labels[rows].astype(np.float64) if self.kind == "number" else np.zeros(1)
        self.centre, self.spread = float(numbers.mean()), float(numbers.std()) or 1.0

    @staticmethod
    def _average(
        task: ProbeTask, rows: NDArray[np.int64], function: Callable[[NDArray[Any]], NDArray[Any]]
    ) -> NDArray[np.float64]:
        """Mean over clips of a function of their inputs, in float64 without a copy of them all."""
        total = np.zeros(task.embeddings.shape[1:])
        for first in range(0, len(rows), ROWS):
            total += function(task.embeddings[rows[first : first + ROWS]].astype(np.float64)).sum(axis=0)
        return total / len(rows)

    def part(self, task: ProbeTask, rows: NDArray[np.int64]) -> _Part:
        """Take clips out of the task, scaled."""
        inputs = torch.empty(len(rows), *task.embeddings.shape[1:])  # [n, ...]
        for first in range(0, len(rows), ROWS):
            values = task.embeddings[rows[first : first + ROWS]].astype(np.float64)
            inputs[first : first + ROWS] = torch.from_numpy((values - self.mean) / self.std)
        labels = task.labels[rows]
        if self.kind == "several":
            targets = torch.from_numpy(labels).float()
        elif self.kind == "single":
            targets = functional.one_hot(torch.from_numpy(labels).long(), self.classes).float()
        else:
            targets = torch.from_numpy((labels - self.centre) / self.spread).float()[:, None]
        return _Part(inputs, targets, labels)

    def scores(self, logits: Tensor) -> NDArray[np.float32]:
        """Turn logits ``[n, C]`` into scores, numbers in their own unit."""
        values: NDArray[np.float32] = logits.numpy()
        return values * np.float32(self.spread) + np.float32(self.centre) if self.kind == "number" else values

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over clips: cross-entropy, its sum over classes where several are right, or half the squared error."""
        if self.kind == "several":
            return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1).mean()
        if self.kind == "single":
            return functional.cross_entropy(logits, targets)
        return 0.5 * functional.mse_loss(logits, targets)


@dataclass(frozen=True)
class _Part:
    """Inputs float32 ``[n, ...]``, targets float32 ``[n, C]`` and labels as in the task."""

    inputs: Tensor
    targets: Tensor
    labels: NDArray[Any]


@dataclass
class _Fit:
    """A trained head with its validation score and loss, after so many epochs."""

    head: Head
    metric: float = float("-inf")
    loss: float = float("inf")
    epoch: int = 0


@dataclass(frozen=True)
class Trained:
    """What came of one split.

    Attributes:
        scores: of the test clips, ``[S, n, C]``.
        validation: score of the settings chosen, on the validation clips, by the first seed.
        chosen: what was chosen, for the record.
        heads: one per seed.
        inputs: test clips as the heads saw them, ``[n, ...]``.
    """

    scores: NDArray[np.float32]
    validation: float
    chosen: dict[str, Any]
    heads: list[Head]
    inputs: Tensor


def listed(value: float | list[float]) -> list[float]:
    """Return one value or several as a rising list."""
    return sorted(set(value)) if isinstance(value, list) else [value]


def parts_of(clips: int, batch_size: int) -> int:
    """Return how many batches of nearly one size an epoch has, none of a single clip: it has no batch statistics."""
    return max(1, min(-(-clips // batch_size), clips // 2))


@torch.no_grad()
def _logits(head: Head, inputs: Tensor) -> Tensor:
    """Logits ``[n, C]`` of inputs ``[n, ...]``, nothing dropped."""
    head.eval()
    return torch.cat([head(batch) for batch in inputs.split(ROWS)])


def _fit(
    build: Callable[[], Head],
    point: dict[str, Any],
    seed: int,
    scaling: Scaling,
    train: _Part,
    validation: _Part | None,
    epochs: int,
    options: HeadOptions,
) -> _Fit:
    """Train one head from its first weights; everything random follows from the seed.

    With validation clips the last epoch is scored or, with patience, every epoch, and the best is kept.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(int(seed))
        head = build()
        optimiser = torch.optim.Adam(head.groups(point), lr=point["lr"], fused=True)
        best = _Fit(head, epoch=epochs)
        parts = parts_of(len(train.inputs), options.batch_size)
        for epoch in range(1, epochs + 1):
            head.train()
            for rows in torch.tensor_split(torch.randperm(len(train.inputs)), parts):
                optimiser.zero_grad()
                scaling.loss(head(train.inputs[rows]), train.targets[rows]).backward()
                optimiser.step()
            if validation is None or (options.patience is None and epoch < epochs):
                continue
            logits = _logits(head, validation.inputs)
            # A validation part without any positive has no mAP; then the loss alone chooses.
            metric = float(np.nan_to_num(score(validation.labels, scaling.scores(logits)), nan=0.0))
            loss = float(scaling.loss(logits, validation.targets))
            if (metric, -loss) > (best.metric, -best.loss):
                best = _Fit(copy.deepcopy(head), metric, loss, epoch)
            elif options.patience is not None and epoch - best.epoch >= options.patience:
                break
        return best


def train_head(
    task: ProbeTask,
    split: Split,
    seeds: Sequence[int],
    grid: Sequence[dict[str, Any]],
    build: Build,
    options: HeadOptions,
) -> Trained:
    """Train a head per seed on one split; the first seed chooses the grid point on the validation clips.

    Of equal validation scores the lower loss wins, then the earlier grid point. Test clips are read once, at the end.

    Args:
        task: embeddings ``[clips, ...]``.
        split: of the task.
        seeds: one head each.
        grid: settings to choose from, each with ``lr``.
        build: makes a head.
        options: how to train.

    Raises:
        DataError: training left no finite weights, or a part of the split is empty.
    """
    for name, rows in (("training", split.train), ("validation", split.validation), ("test", split.test)):
        if not len(rows):
            raise DataError(
                f"task {task.name!r}, {split.name}: the {name} part is empty", hint="Check its column split or fold."
            )
    scaling = Scaling(task, split.train, options.standardise)
    train, validation = scaling.part(task, split.train), scaling.part(task, split.validation)
    shape, outputs = train.inputs.shape[1:], scaling.classes

    def fit(point: dict[str, Any], seed: int) -> _Fit:
        make = lambda: build(point, shape, outputs)  # noqa: E731
        return _fit(make, point, seed, scaling, train, validation, options.epochs, options)

    searched = [fit(point, seeds[0]) for point in grid]
    best = max(range(len(grid)), key=lambda number: (searched[number].metric, -searched[number].loss))
    point = grid[best]
    fits = [searched[best], *(fit(point, seed) for seed in seeds[1:])]
    refit = split.held_out if options.refit == "held-out" else options.refit == "always"
    heads = [one.head for one in fits]
    if refit:
        rows = np.concatenate([split.train, split.validation])
        scaling = Scaling(task, rows, options.standardise)
        whole = scaling.part(task, rows)
        make = lambda: build(point, shape, outputs)  # noqa: E731
        heads = [
            _fit(make, point, seed, scaling, whole, None, one.epoch, options).head
            for seed, one in zip(seeds, fits, strict=True)
        ]
    test = scaling.part(task, split.test)
    scores = np.stack([scaling.scores(_logits(head, test.inputs)) for head in heads])  # [S, n, C]
    if not np.isfinite(scores).all():
        raise DataError(f"task {task.name!r}, {split.name}: the head diverged at {point}", hint="Give it a smaller lr.")
    chosen = {**point, "epochs": [one.epoch for one in fits], "validation": fits[0].metric, "refit": refit}
    return Trained(scores, fits[0].metric, chosen, heads, test.inputs)
