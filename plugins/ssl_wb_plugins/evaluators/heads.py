"""What probes with a trained head share: options, one training loop, and a choice that sees validation clips only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_wb.api import DataError, Field, PluginOptions, ProbeTask, Split
from ssl_wb_plugins.evaluators.scaling import Inputs, Part, Scaling
from ssl_wb_plugins.evaluators.teams import Batch, Head, LinearTeam, ModuleTeam, Team, logits_of

__all__ = [
    "Build",
    "Decays",
    "HeadOptions",
    "Rates",
    "Trained",
    "grid_of",
    "listed",
    "parts_of",
    "train_head",
]

Rate = Annotated[float, Field(gt=0.0)]
Decay = Annotated[float, Field(ge=0.0)]
Rates = Rate | Annotated[list[Rate], Field(min_length=1)]
Decays = Decay | Annotated[list[Decay], Field(min_length=1)]


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


def _pass(team: Team, members: Sequence[int], orders: Sequence[torch.Generator], train: Part, batch_size: int) -> None:
    """Pass once over the training clips with some heads of a team; those of one order share its batches."""
    sharing: dict[torch.Generator, list[int]] = {}
    for number in members:
        sharing.setdefault(orders[number], []).append(number)
    count = len(train.inputs)
    parts = parts_of(count, batch_size)
    batches = [torch.tensor_split(torch.randperm(count, generator=order), parts) for order in sharing]
    for step in zip(*batches, strict=True):
        team.step(
            [
                Batch(together, train.inputs[rows], train.targets[rows])
                for rows, together in zip(step, sharing.values(), strict=True)
            ]
        )


def _fit(
    build: Callable[[dict[str, Any]], Head],
    runs: Sequence[_Run],
    scaling: Scaling,
    train: Part,
    validation: Part | None,
    options: HeadOptions,
    kind: type[ModuleTeam | LinearTeam] = ModuleTeam,
) -> list[_Fit]:
    """Train the heads of some runs at the same time; everything random follows from the seed of each.

    With validation clips the last epoch is scored or, with patience, every epoch, and the best is kept.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        heads, orders = _begin(build, runs)
        team: Team = kind(heads, [run.point for run in runs], scaling)
        best = [_Fit(head, epoch=run.epochs) for head, run in zip(heads, runs, strict=True)]
        active = list(range(len(runs)))
        for epoch in range(1, max(run.epochs for run in runs) + 1):
            _pass(team, active, orders, train, options.batch_size)
            ended = {number for number in active if epoch == runs[number].epochs}
            if validation is None:
                for number in ended:
                    best[number] = _Fit(team.head(number), epoch=epoch)
            elif options.patience is not None or ended:
                logits = team.logits(active, validation.inputs, scaling.at_once)  # [r, n, C]
                for number, one in zip(active, logits, strict=True):
                    metric, loss = scaling.merit(one, validation)
                    if (metric, -loss) > (best[number].metric, -best[number].loss):
                        best[number] = _Fit(team.head(number), metric, loss, epoch)
                    elif options.patience is not None and epoch - best[number].epoch >= options.patience:
                        ended.add(number)
            active = [number for number in active if number not in ended]
            if not active:
                break
            if ended:
                team.keep(active)
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
    kind: type[LinearTeam] | None = None,
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
        kind: team that trains all grid points, then all seeds, at the same time; they are trained one by one without.

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
        sets = [[run] for run in runs] if kind is None else [runs] if runs else []
        make = lambda point: build(point, shape, outputs)  # noqa: E731
        return [one for some in sets for one in _fit(make, some, scale, part, judge, options, kind or ModuleTeam)]

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
    scores = np.stack([scale.scores(one) for one in logits_of(heads, test, scale.at_once)])  # [S, n, C]
    if not np.isfinite(scores).all():
        raise DataError(where, hint="Give it a smaller lr.")
    chosen = {**point, "epochs": epochs, "validation": first.metric, "refit": refit}
    return Trained(scores, first.metric, chosen, heads, test)
