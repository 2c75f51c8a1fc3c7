"""What probes with a trained head share: options, one training loop, and a choice that sees validation clips only."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ssl_wb.api import DataError, Field, PluginOptions, ProbeTask, Split
from ssl_wb_plugins.evaluators.scaling import Inputs, Part, Scaling

__all__ = [
    "Build",
    "Decays",
    "Head",
    "HeadOptions",
    "LinearHead",
    "Rates",
    "Trained",
    "grid_of",
    "linear_layer",
    "listed",
    "parts_of",
    "train_head",
]

Rate = Annotated[float, Field(gt=0.0)]
Decay = Annotated[float, Field(ge=0.0)]
Rates = Rate | Annotated[list[Rate], Field(min_length=1)]
Decays = Decay | Annotated[list[Decay], Field(min_length=1)]

#: Spread of a linear layer's first weights: small, so that directions the clips do not span add no noise to the scores.
INIT_STD = 0.01


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

    @classmethod
    def together(cls, heads: Sequence[Head], inputs: Any) -> Tensor:
        """Return logits ``[R, n, C]`` of R heads of this class for the same inputs ``[n, ...]``.

        A class whose heads are quicker computed in one product than one by one overrides this.
        """
        return torch.stack([head(inputs) for head in heads])


def linear_layer(width: int, outputs: int) -> nn.Linear:
    """Return a Linear with small first weights, bias 0."""
    layer = nn.Linear(width, outputs)
    nn.init.normal_(layer.weight, std=INIT_STD)
    nn.init.zeros_(layer.bias)
    return layer


class LinearHead(Head):
    """A linear layer on one embedding: ``[n, D]`` to ``[n, C]``."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear = linear_layer(width, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits ``[n, C]`` of embeddings ``[n, D]``."""
        return self.linear(inputs)

    @classmethod
    def together(cls, heads: Sequence[Head], inputs: Any) -> Tensor:
        """Return logits ``[R, n, C]`` of R linear layers, as one wide product."""
        layers = [head.linear for head in heads if isinstance(head, LinearHead)]
        if len(layers) == 1:
            return layers[0](inputs)[None]
        weight = torch.cat([layer.weight for layer in layers])  # [R * C, D]
        wide = functional.linear(inputs, weight, torch.cat([layer.bias for layer in layers]))  # [n, R * C]
        return wide.unflatten(1, (len(layers), -1)).transpose(0, 1)


#: Builds a head from a grid point, the shape of one clip's input and the number of outputs.
Build = Callable[[dict[str, Any], torch.Size, int], Head]


@dataclass(frozen=True)
class _Run:
    """One training: settings, seed and passes over the clips."""

    point: dict[str, Any]
    seed: int
    epochs: int


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
    inputs: Inputs


def listed(value: float | list[float]) -> list[float]:
    """Return one value or several as a rising list."""
    return sorted(set(value)) if isinstance(value, list) else [value]


def grid_of(lr: float | list[float], weight_decay: float | list[float]) -> list[dict[str, Any]]:
    """Return every pair of a learning rate and a weight decay, the smaller ones first."""
    return [{"lr": rate, "weight_decay": decay} for rate, decay in product(listed(lr), listed(weight_decay))]


def parts_of(clips: int, batch_size: int) -> int:
    """Return how many batches of nearly one size an epoch has, none of a single clip: it has no batch statistics."""
    return max(1, min(-(-clips // batch_size), clips // 2))


@torch.no_grad()
def _logits(heads: Sequence[Head], inputs: Inputs, at_once: int) -> Tensor:
    """Logits ``[R, n, C]`` of inputs ``[n, ...]``, nothing dropped."""
    for head in heads:
        head.eval()
    firsts = range(0, len(inputs), at_once)
    return torch.cat([heads[0].together(heads, inputs[first : first + at_once]) for first in firsts], dim=1)


def _groups(heads: Sequence[Head], runs: Sequence[_Run]) -> list[dict[str, Any]]:
    """Return Adam's groups of all heads; those of equal settings are one, which a fused step has to visit once."""
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for head, run in zip(heads, runs, strict=True):
        for group in head.groups(run.point):
            settings = {key: value for key, value in group.items() if key != "params"}
            groups.setdefault(tuple(settings.items()), {**settings, "params": []})["params"] += group["params"]
    return list(groups.values())


def _begin(build: Callable[[dict[str, Any]], Head], runs: Sequence[_Run]) -> tuple[list[Head], list[torch.Generator]]:
    """Build the head of each run by its seed, and what draws its order of clips thereafter."""
    heads, orders = [], {}
    for run in runs:
        torch.manual_seed(int(run.seed))
        heads.append(build(run.point))
        orders[run.seed] = torch.default_generator
        if len(runs) > 1:
            orders[run.seed] = torch.Generator().set_state(torch.get_rng_state())
    return heads, [orders[run.seed] for run in runs]


def _pass(
    heads: Sequence[Head],
    orders: Sequence[torch.Generator],
    scaling: Scaling,
    train: Part,
    batch_size: int,
    optimiser: torch.optim.Optimizer,
) -> None:
    """Pass once over the training clips; heads of one order share its batches."""
    sharing: dict[torch.Generator, list[Head]] = {}
    for head, order in zip(heads, orders, strict=True):
        sharing.setdefault(order, []).append(head.train())
    count = len(train.inputs)
    parts = parts_of(count, batch_size)
    batches = [torch.tensor_split(torch.randperm(count, generator=order), parts) for order in sharing]
    for step in zip(*batches, strict=True):
        optimiser.zero_grad()
        losses = []
        for rows, members in zip(step, sharing.values(), strict=True):
            logits = members[0].together(members, train.inputs[rows])  # [r, b, C]
            targets = train.targets[rows].repeat(len(members), 1)  # [r * b, C]
            losses.append(scaling.loss(logits.flatten(0, 1), targets) * len(members))
        # A sum: each head has the gradient of its own loss.
        torch.stack(losses).sum().backward()
        optimiser.step()


def _fit(
    build: Callable[[dict[str, Any]], Head],
    runs: Sequence[_Run],
    scaling: Scaling,
    train: Part,
    validation: Part | None,
    options: HeadOptions,
) -> list[_Fit]:
    """Train the heads of some runs side by side; everything random follows from the seed of each.

    With validation clips the last epoch is scored or, with patience, every epoch, and the best is kept.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        heads, orders = _begin(build, runs)
        optimiser = torch.optim.Adam(_groups(heads, runs), lr=runs[0].point["lr"], fused=True)
        best = [_Fit(head, epoch=run.epochs) for head, run in zip(heads, runs, strict=True)]
        active = list(range(len(runs)))
        for epoch in range(1, max(run.epochs for run in runs) + 1):
            now = [heads[number] for number in active]
            _pass(now, [orders[number] for number in active], scaling, train, options.batch_size, optimiser)
            ended = {number for number in active if epoch == runs[number].epochs}
            if validation is not None and (options.patience is not None or ended):
                logits = _logits(now, validation.inputs, scaling.at_once)
                for number, one in zip(active, logits, strict=True):
                    metric, loss = scaling.merit(one, validation)
                    fit = _Fit(heads[number], metric, loss, epoch)
                    if (fit.metric, -fit.loss) > (best[number].metric, -best[number].loss):
                        best[number] = replace(fit, head=copy.deepcopy(fit.head))
                    elif options.patience is not None and epoch - best[number].epoch >= options.patience:
                        ended.add(number)
            # A head that goes has no gradient from now on, and Adam leaves it alone.
            active = [number for number in active if number not in ended]
            if not active:
                break
        return best


def train_head(
    task: ProbeTask,
    split: Split,
    seeds: Sequence[int],
    grid: Sequence[dict[str, Any]],
    build: Build,
    options: HeadOptions,
    *,
    scaling: type[Scaling] = Scaling,
    side_by_side: bool = False,
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
        scaling: takes clips out of the task; another where clips are not of one size.
        side_by_side: train all grid points, then all seeds, in one loop. Quicker for small heads, and the same but for
            rounding; for heads that draw no random numbers after their first weights.

    Raises:
        DataError: training left no finite weights, or a part of the split is empty.
    """
    for name, rows in (("training", split.train), ("validation", split.validation), ("test", split.test)):
        if not len(rows):
            raise DataError(
                f"task {task.name!r}, {split.name}: the {name} part is empty", hint="Check its column split or fold."
            )
    scale = scaling(task, split.train, options.standardise)
    train, validation = scale.part(task, split.train), scale.part(task, split.validation)
    shape, outputs = torch.Size(task.embeddings.shape[1:]), scale.classes

    def fit(runs: Sequence[_Run], part: Part, judge: Part | None) -> list[_Fit]:
        sets = [runs] if side_by_side else [[run] for run in runs]
        make = lambda point: build(point, shape, outputs)  # noqa: E731
        return [one for some in sets if some for one in _fit(make, some, scale, part, judge, options)]

    searched = fit([_Run(point, seeds[0], options.epochs) for point in grid], train, validation)
    best = max(range(len(grid)), key=lambda number: (searched[number].metric, -searched[number].loss))
    point, first = grid[best], searched[best]
    where = f"task {task.name!r}, {split.name}: the head diverged at {point}"
    if not np.isfinite(first.metric):
        raise DataError(where, hint="Give it a smaller lr.")
    refit = split.held_out if options.refit == "held-out" else options.refit == "always"
    epochs = [options.epochs] * len(seeds)
    heads: list[Head] = []
    if not refit or options.patience is not None:
        fits = [first, *fit([_Run(point, seed, options.epochs) for seed in seeds[1:]], train, validation)]
        heads, epochs = [one.head for one in fits], [one.epoch for one in fits]
    if refit:
        rows = np.concatenate([split.train, split.validation])
        scale = scaling(task, rows, options.standardise)
        last = [_Run(point, seed, count) for seed, count in zip(seeds, epochs, strict=True)]
        heads = [one.head for one in fit(last, scale.part(task, rows), None)]
    test = scale.inputs(task, split.test)
    scores = np.stack([scale.scores(one) for one in _logits(heads, test, scale.at_once)])  # [S, n, C]
    if not np.isfinite(scores).all():
        raise DataError(where, hint="Give it a smaller lr.")
    chosen = {**point, "epochs": epochs, "validation": first.metric, "refit": refit}
    return Trained(scores, first.metric, chosen, heads, test)
