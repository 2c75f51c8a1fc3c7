"""Training of heads: one loop for all probes, settings chosen on validation clips, test clips read once at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_wb.errors import DataError
from ssl_wb.plugin.evaluator import ProbeTask, Split
from ssl_wb.probing.checks import require_parts
from ssl_wb.probing.head_ensemble import Batch, HeadEnsemble, LinearEnsemble, ModuleEnsemble
from ssl_wb.probing.heads import Head, LinearHead, logits_of
from ssl_wb.probing.inputs import Inputs, InputScaling
from ssl_wb.probing.options import HeadOptions
from ssl_wb.probing.targets import Targets

__all__ = ["Build", "TrainedHeads", "batches_per_epoch", "train_heads"]

#: Builds a head from a grid point, the shape of one clip's input and the number of outputs.
Build = Callable[[dict[str, Any], torch.Size, int], Head]


class _Run(NamedTuple):
    """One training: a grid point, a seed and passes over the clips."""

    settings: dict[str, Any]
    seed: int
    epochs: int


@dataclass
class _Fit:
    """A head after so many epochs, with its validation score (higher is better) and loss."""

    head: Head
    score: float = float("-inf")
    loss: float = float("inf")
    epoch: int = 0


class _Clips(NamedTuple):
    """Inputs of n clips, targets float32 ``[n, C]`` and labels as in the task."""

    inputs: Inputs
    targets: Tensor
    labels: NDArray[Any]


class _Data:
    """A task's clips as a head sees them: scaled by the training clips."""

    def __init__(
        self, task: ProbeTask, train: NDArray[np.int64], standardise: bool, scaling: type[InputScaling] = InputScaling
    ) -> None:
        self._task = task
        self.scaling = scaling(task, train, standardise)
        self.targets = Targets(task, train)

    def clips(self, rows: NDArray[np.int64]) -> _Clips:
        labels = self._task.labels[rows]
        return _Clips(self.scaling.inputs(self._task, rows), self.targets.of(labels), labels)


@dataclass(frozen=True)
class TrainedHeads:
    """The heads of one split.

    Attributes:
        scores: float32 ``[seeds, test clips, C]``, for :class:`ssl_wb.api.SplitScores`.
        validation: validation score of the chosen settings, by the first seed; higher is better.
        chosen: the settings, epochs per seed, validation score and whether validation clips trained too; plain values.
        heads: one per seed.
        inputs: the test clips as the heads saw them, ``[n, ...]``.
    """

    scores: NDArray[np.float32]
    validation: float
    chosen: dict[str, Any]
    heads: list[Head]
    inputs: Inputs


def batches_per_epoch(clips: int, batch_size: int) -> int:
    """Return how many batches of nearly equal size hold all clips; none holds one clip, which has no batch variance."""
    return max(1, min(-(-clips // batch_size), clips // 2))


def _begin(build: Callable[[dict[str, Any]], Head], runs: Sequence[_Run]) -> tuple[list[Head], list[torch.Generator]]:
    """Build the head of each run by its seed, and return what draws its order of clips thereafter.

    A head trained alone goes on with torch's default generator, which dropout draws from too. Heads trained side by
    side get generators of their own that start where each head's building left off, so that a head sees the same
    batches whatever is trained beside it; equal seeds share one.
    """
    heads, orders = [], {}
    for run in runs:
        torch.manual_seed(int(run.seed))
        heads.append(build(run.settings))
        orders[run.seed] = torch.default_generator
        if len(runs) > 1:
            orders[run.seed] = torch.Generator().set_state(torch.get_rng_state())
    return heads, [orders[run.seed] for run in runs]


def _train_epoch(
    ensemble: HeadEnsemble, members: Sequence[int], orders: Sequence[torch.Generator], train: _Clips, batch_size: int
) -> None:
    """Pass once over the training clips with some members; those that draw the same order share its batches."""
    sharing: dict[torch.Generator, list[int]] = {}
    for member in members:
        sharing.setdefault(orders[member], []).append(member)
    count = len(train.inputs)
    parts = batches_per_epoch(count, batch_size)
    batches = [torch.tensor_split(torch.randperm(count, generator=order), parts) for order in sharing]
    for step in zip(*batches, strict=True):
        ensemble.step(
            [
                Batch(together, train.inputs[rows], train.targets[rows])
                for rows, together in zip(step, sharing.values(), strict=True)
            ]
        )


def _fit(
    build: Callable[[dict[str, Any]], Head],
    runs: Sequence[_Run],
    data: _Data,
    train: _Clips,
    validation: _Clips | None,
    options: HeadOptions,
    kind: type[HeadEnsemble] = ModuleEnsemble,
) -> list[_Fit]:
    """Train the heads of some runs side by side; everything random follows from the seed of each.

    With validation clips the last epoch is scored or, with patience, every epoch, and the best one is kept.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        heads, orders = _begin(build, runs)
        ensemble = kind(heads, [run.settings for run in runs], data.targets)
        best = [_Fit(head, epoch=run.epochs) for head, run in zip(heads, runs, strict=True)]
        active = list(range(len(runs)))
        for epoch in range(1, max(run.epochs for run in runs) + 1):
            _train_epoch(ensemble, active, orders, train, options.batch_size)
            ended = {member for member in active if epoch == runs[member].epochs}
            if validation is None:
                for member in ended:
                    best[member] = _Fit(ensemble.head(member), epoch=epoch)
            elif options.patience is not None or ended:
                logits = ensemble.logits(active, validation.inputs, data.scaling.at_once)  # [r, n, C]
                for member, its_logits in zip(active, logits, strict=True):
                    score, loss = data.targets.validate(its_logits, validation.targets, validation.labels)
                    if (score, -loss) > (best[member].score, -best[member].loss):
                        best[member] = _Fit(ensemble.head(member), score, loss, epoch)
                    elif options.patience is not None and epoch - best[member].epoch >= options.patience:
                        ended.add(member)
            active = [member for member in active if member not in ended]
            if not active:
                break
            if ended:
                ensemble.keep(active)
        return best


# Long, as it documents the API: the body is search, choice, refit and scores, one after the other.
def train_heads(
    task: ProbeTask,
    split: Split,
    seeds: Sequence[int],
    grid: Sequence[dict[str, Any]],
    build: Build,
    options: HeadOptions,
    *,
    scaling: type[InputScaling] = InputScaling,
) -> TrainedHeads:
    """Train a head per seed on one split; the first seed chooses the grid point on the validation clips.

    Of equal validation scores the lower loss wins, then the earlier grid point. Where ``options.refit`` says so, the
    heads are trained again on training and validation clips together, for the epochs that validation chose. Test clips
    are read once, at the end.

    Args:
        task: embeddings ``[clips, ...]``.
        split: of the task.
        seeds: one head each.
        grid: settings to choose from, each with ``lr``; from :func:`ssl_wb.api.settings_grid`.
        build: builds a head. If it is a :class:`ssl_wb.api.LinearHead`, the whole grid, and then all seeds, are trained
            at the same time, which is twice as fast; heads of other kinds are trained one by one.
        options: how to train.
        scaling: reads and scales the inputs; a subclass where clips are not of one size.

    Raises:
        DataError: training left no finite weights, or a part of the split is empty.
    """
    require_parts(task, split)
    data = _Data(task, split.train, options.standardise, scaling)
    train, validation = data.clips(split.train), data.clips(split.validation)
    shape, outputs = torch.Size(task.embeddings.shape[1:]), data.targets.outputs

    def build_head(settings: dict[str, Any]) -> Head:
        return build(settings, shape, outputs)

    with torch.random.fork_rng(devices=[]):
        linear = type(build_head(grid[0])) is LinearHead

    def fit(runs: Sequence[_Run], train: _Clips, validation: _Clips | None) -> list[_Fit]:
        if linear and runs:
            return _fit(build_head, runs, data, train, validation, options, LinearEnsemble)
        return [one for run in runs for one in _fit(build_head, [run], data, train, validation, options)]

    searched = fit([_Run(settings, seeds[0], options.epochs) for settings in grid], train, validation)
    best = max(range(len(grid)), key=lambda point: (searched[point].score, -searched[point].loss))
    settings, first = grid[best], searched[best]
    diverged = DataError(
        f"task {task.name!r}, {split.name}: the head diverged at {settings}", hint="Give it a smaller lr."
    )
    if not np.isfinite(first.score):
        raise diverged
    refit = options.refits(split)
    epochs = [options.epochs] * len(seeds)
    heads: list[Head] = []
    # With refit and without patience the other seeds have nothing to learn from validation clips.
    if not refit or options.patience is not None:
        fits = [first, *fit([_Run(settings, seed, options.epochs) for seed in seeds[1:]], train, validation)]
        heads, epochs = [one.head for one in fits], [one.epoch for one in fits]
    if refit:
        rows = np.concatenate([split.train, split.validation])
        data = _Data(task, rows, options.standardise, scaling)
        runs = [_Run(settings, seed, count) for seed, count in zip(seeds, epochs, strict=True)]
        heads = [one.head for one in fit(runs, data.clips(rows), None)]
    test = data.scaling.inputs(task, split.test)
    logits = logits_of(heads, test, data.scaling.at_once)  # [S, n, C]
    scores = np.stack([data.targets.scores(one) for one in logits])
    if not np.isfinite(scores).all():
        raise diverged
    chosen = {**settings, "epochs": epochs, "validation": first.score, "refit": refit}
    return TrainedHeads(scores, first.score, chosen, heads, test)
