"""Linear probe: one linear layer on standardised, frozen embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ssl_wb.api import (
    Evaluator,
    Field,
    PluginOptions,
    ProbeTask,
    Result,
    Split,
    SplitScores,
    hookimpl,
    kind_of,
    score,
    summarise,
)
from ssl_wb_plugins.evaluators.heads import Decays, Rates

if TYPE_CHECKING:
    from sklearn.preprocessing import StandardScaler

#: Adam's moments (PyTorch's and EVAR's values).
BETAS, EPS = (0.9, 0.999), 1e-8
#: Spread of the first weights: small, so that directions the clips do not span add no noise to the scores.
INIT_STD = 0.01


class LinearOptions(PluginOptions):
    """Options of the linear probe."""

    lr: Rates = Field(
        default_factory=lambda: [3e-4, 1e-3, 3e-3],
        description="Adam's learning rate; of several, the validation part chooses. EVAR's own is 3e-5.",
    )
    weight_decay: Decays = Field(
        default_factory=lambda: [1e-3, 1e-2],
        description="L2 penalty; of several, the validation part chooses. EVAR's own is 1e-8.",
    )
    batch_size: int = Field(200, ge=1, description="Clips per step, at most the clips there are.")
    epochs: int = Field(200, ge=1, description="Passes over the training clips, at most.")
    patience: int | None = Field(
        None,
        ge=1,
        description="Stop after so many epochs without a better validation score and keep the best epoch; "
        "EVAR's own is 20. All epochs are trained and the last one is kept unless given.",
    )
    standardise: bool = Field(True, description="Scale every dimension to mean 0 and variance 1 of the training clips.")
    refit: Literal["held-out", "always", "never"] = Field(
        "held-out",
        description="Train again on training and validation clips with the settings and epochs chosen: where "
        "the workbench itself held the validation clips out of the training part, always, or never.",
    )
    resamples: int = Field(
        1000, ge=100, description="Bootstrap resamples of the interval; a fifth where a metric sorts (mAP)."
    )


@dataclass(frozen=True)
class _Part:
    """Clips to train on or to choose with.

    Attributes:
        inputs: float32 ``[n, D]``.
        targets: float32 ``[n, C]`` of 0 and 1, or standardised numbers ``[n, 1]``.
        labels: as in the task.
        kind: what they are: one class, several, or a number.
    """

    inputs: Tensor
    targets: Tensor
    labels: NDArray[Any]
    kind: str


@dataclass(frozen=True)
class _Scaling:
    """What training clips say about scale: of the inputs and, for numbers, of the labels."""

    inputs: StandardScaler
    centre: float
    spread: float


@dataclass
class _Fit:
    """What validation says of every run; runs are seeds x grid points.

    Attributes:
        metric: validation score ``[S, G]``.
        loss: validation loss ``[S, G]``, which decides between equal scores.
        epoch: passes after which they were reached, ``[S, G]``.
    """

    metric: NDArray[np.float64]
    loss: NDArray[np.float64]
    epoch: NDArray[np.int64]


def _answers(logits: Tensor, kind: str) -> Tensor:
    """Sigmoid (several labels), softmax (one) or nothing (a number) over the last axis of ``[..., C]``."""
    if kind == "number":
        return logits
    return logits.sigmoid() if kind == "several" else logits.softmax(dim=-1)


def _losses(logits: Tensor, part: _Part) -> NDArray[np.float64]:
    """Mean loss over clips of logits ``[S, n, G, C]``, as ``[S, G]``."""
    truth = part.targets[None, :, None, :].expand_as(logits)
    if part.kind == "number":
        each = 0.5 * (logits - truth).square().sum(dim=-1)
    elif part.kind == "several":
        each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(dim=-1)
    else:
        each = -(truth * logits.log_softmax(dim=-1)).sum(dim=-1)
    return np.asarray(each.mean(dim=1).double().numpy())


def _metrics(logits: Tensor, part: _Part) -> NDArray[np.float64]:
    """Accuracy, macro mAP or R2 of logits ``[S, n, G, C]``, as ``[S, G]``."""
    if part.kind == "single":
        truth = torch.from_numpy(part.labels)[None, :, None]
        return np.asarray((logits.argmax(dim=-1) == truth).double().mean(dim=1).numpy())
    labels = part.targets[:, 0].numpy() if part.kind == "number" else part.labels
    seeds, _, points, _ = logits.shape
    values = [[score(labels, logits[s, :, g].numpy()) for g in range(points)] for s in range(seeds)]
    # A validation part without any positive has no mAP; then the loss alone chooses.
    return np.asarray(np.nan_to_num(np.array(values, dtype=np.float64), nan=0.0))


class _Trainer:
    """Linear layers of all seeds and grid points, trained side by side.

    The gradient of the cross-entropy (softmax or sigmoid), or of half the squared error of a number, with
    respect to the logits is answers minus targets, so a step is two batched matrix products and Adam's update,
    written out. Losses are means over clips and sums over classes; EVAR's mean over classes differs by a
    factor that Adam cancels.
    """

    def __init__(
        self, train: _Part, grid: Sequence[tuple[float, float]], seeds: Sequence[int], options: LinearOptions
    ) -> None:
        self.train, self.options = train, options
        self.points, self.classes = len(grid), train.targets.shape[1]
        self.order = [np.random.default_rng(seed) for seed in seeds]
        width = train.inputs.shape[1]
        first = [
            torch.empty(width, 1, self.classes).normal_(
                0.0, INIT_STD, generator=torch.Generator().manual_seed(int(seed))
            )
            for seed in seeds
        ]  # every grid point of a seed starts from the same weights
        weights = torch.stack(first).expand(-1, -1, self.points, -1).clone()  # [S, D, G, C]
        self.tensors = [weights, torch.zeros(len(seeds), 1, self.points, self.classes)]
        self.means = [torch.zeros_like(tensor) for tensor in self.tensors]
        self.squares = [torch.zeros_like(tensor) for tensor in self.tensors]
        self.rates = torch.tensor([rate for rate, _ in grid])[:, None]  # [G, 1]
        self.decays = torch.tensor([decay for _, decay in grid])[:, None]  # [G, 1]
        self.steps = 0

    def logits(self, inputs: Tensor) -> Tensor:
        """Return ``[S, n, G, C]`` of inputs ``[n, D]`` or ``[S, n, D]``."""
        weights, bias = self.tensors
        flat = torch.matmul(inputs, weights.flatten(start_dim=2))  # [S, n, G * C]
        logits: Tensor = flat.view(*flat.shape[:2], self.points, self.classes) + bias
        return logits

    def epoch(self) -> None:
        """Pass once over the training clips, in an order of each seed's own."""
        count = len(self.train.inputs)
        rows = torch.from_numpy(np.stack([order.permutation(count) for order in self.order]))  # [S, n]
        for batch in torch.split(rows, self.options.batch_size, dim=1):
            self._step(self.train.inputs[batch], self.train.targets[batch])

    def _step(self, inputs: Tensor, targets: Tensor) -> None:
        """Take one step of Adam on inputs ``[S, b, D]`` and targets ``[S, b, C]``."""
        error = _answers(self.logits(inputs), self.train.kind) - targets[:, :, None, :]  # [S, b, G, C]
        error = error / inputs.shape[1]
        weights, bias = self.tensors
        slope = torch.bmm(inputs.transpose(1, 2), error.flatten(start_dim=2)).view_as(weights)
        gradients = [slope.addcmul_(weights, self.decays), error.sum(dim=1, keepdim=True).view_as(bias)]
        self.steps += 1
        correction = (1 - BETAS[1] ** self.steps) ** 0.5
        rates = self.rates * correction / (1 - BETAS[0] ** self.steps)  # [G, 1]
        for tensor, mean, square, gradient in zip(self.tensors, self.means, self.squares, gradients, strict=True):
            mean.lerp_(gradient, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            tensor.addcdiv_(mean * rates, square.sqrt().add_(EPS * correction), value=-1.0)

    def keep(self, points: NDArray[np.bool_]) -> None:
        """Go on with some grid points only; the mask is ``[G]``."""
        mask = torch.from_numpy(points)
        for tensors in (self.tensors, self.means, self.squares):
            tensors[:] = [tensor[:, :, mask] for tensor in tensors]
        self.rates, self.decays = self.rates[mask], self.decays[mask]
        self.points = int(points.sum())


def _fit(
    train: _Part,
    validation: _Part,
    grid: Sequence[tuple[float, float]],
    seeds: Sequence[int],
    options: LinearOptions,
) -> _Fit:
    """Train every seed at every grid point; score the last epoch or, with patience, the best."""
    trainer = _Trainer(train, grid, seeds, options)
    shape = (len(seeds), len(grid))
    best = _Fit(np.full(shape, -np.inf), np.full(shape, np.inf), np.zeros(shape, dtype=np.int64))
    running = np.arange(len(grid))  # grid points still trained
    for epoch in range(1, options.epochs + 1):
        trainer.epoch()
        if options.patience is None and epoch < options.epochs:
            continue  # only the last epoch counts
        logits = trainer.logits(validation.inputs)  # [S, n, g, C]
        metric, loss = _metrics(logits, validation), _losses(logits, validation)  # [S, g]
        former = best.metric[:, running]
        better = (metric > former) | ((metric == former) & (loss < best.loss[:, running]))
        best.metric[:, running] = np.where(better, metric, former)
        best.loss[:, running] = np.where(better, loss, best.loss[:, running])
        best.epoch[:, running] = np.where(better, epoch, best.epoch[:, running])
        patience = options.patience or options.epochs
        alive = np.any(epoch - best.epoch[:, running] < patience, axis=0)  # [g]
        if not alive.any():
            break
        if not alive.all():
            trainer.keep(alive)
            running = running[alive]
    return best


def _train(
    part: _Part,
    point: tuple[float, float],
    seeds: Sequence[int],
    epochs: NDArray[np.int64],
    options: LinearOptions,
) -> Callable[[Tensor], Tensor]:
    """Train each seed at one grid point for its own number of epochs ``[S]``, without looking at anything.

    Returns:
        The layers of all seeds: inputs ``[n, D]`` to logits ``[S, n, C]``.
    """
    trainer = _Trainer(part, [point], seeds, options)
    weights, bias = (tensor.clone() for tensor in trainer.tensors)
    for epoch in range(1, int(epochs.max()) + 1):
        trainer.epoch()
        for seed in np.flatnonzero(epochs == epoch):
            weights[seed], bias[seed] = trainer.tensors[0][seed], trainer.tensors[1][seed]
    return lambda inputs: torch.matmul(inputs, weights[:, :, 0]) + bias[:, :, 0]


class LinearProbe(Evaluator):
    """Trains one linear layer on standardised embeddings; validation chooses learning rate and weight decay.

    EVAR's linear evaluation with two changes. One learning rate suits only sets of one size, so a small grid
    of rates and weight decays is trained with the first seed, and the best validation score (of equal ones
    the lower loss) decides what every seed is trained with. And weight decay, not an early stop, keeps small
    sets from being overfitted: the best epoch of some tens of validation clips is mostly luck and costs 2 to
    4 points there. Validation clips that the workbench itself held out of the training part go back to it
    once the choice is made. Test clips are read once, at the end. The defaults were settled by agreement with
    scikit-learn's logistic regression (C = 1) on log-mel statistics of four tasks. EVAR's own protocol is
    ``lr = 3e-5, weight_decay = 1e-8, patience = 20, refit = "never"``.
    """

    name = "linear"
    reference = "EVAR lineareval (arXiv 2210.14648, linear evaluation)"
    Options = LinearOptions
    options: LinearOptions

    @torch.no_grad()
    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Probe ``task.embeddings`` ``[clips, D]`` with every seed on every split."""
        found, choices = [], {}
        for split in task.splits:
            scores, choices[split.name] = self._probe(task, split, seeds)
            found.append(SplitScores(split, scores))
        settings = {**self.options.model_dump(), "seeds": list(seeds), "chosen": choices}
        return summarise(task, self.name, found, settings=settings, resamples=self.options.resamples)

    def _probe(self, task: ProbeTask, split: Split, seeds: Sequence[int]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Return test scores ``[S, n, C]`` of one split and what was chosen on its validation part."""
        grid = list(product(_listed(self.options.lr), _listed(self.options.weight_decay)))
        scaler = self._scaler(task, split.train)
        train, validation = _part(task, split.train, scaler), _part(task, split.validation, scaler)
        search = _fit(train, validation, grid, seeds[:1], self.options)
        # max takes the first of equals: the smaller learning rate, the smaller decay
        best = max(range(len(grid)), key=lambda point: (search.metric[0, point], -search.loss[0, point]))
        epochs = np.full(len(seeds), self.options.epochs)
        if self.options.patience is not None:
            epochs = _fit(train, validation, [grid[best]], seeds, self.options).epoch[:, 0]
        refit = self._refits(split)
        rows = np.concatenate([split.train, split.validation]) if refit else split.train
        scaler = self._scaler(task, rows)
        final = _train(_part(task, rows, scaler), grid[best], seeds, epochs, self.options)
        chosen = {
            "lr": grid[best][0],
            "weight_decay": grid[best][1],
            "epochs": epochs.tolist(),
            "validation": float(search.metric[0, best]),
            "refit": refit,
        }
        answers = final(_part(task, split.test, scaler).inputs)  # [S, n, C]
        if task.regression:
            answers = answers * scaler.spread + scaler.centre
        return answers.numpy(), chosen

    def _refits(self, split: Split) -> bool:
        """Whether the validation clips are given back to training once the choices are made."""
        if self.options.refit == "held-out":
            return split.held_out
        return self.options.refit == "always"

    def _scaler(self, task: ProbeTask, rows: NDArray[np.int64]) -> _Scaling:
        """Fit the scaling on some clips."""
        from sklearn.preprocessing import StandardScaler  # over a second, and only a probe needs it

        scaler = StandardScaler(with_mean=self.options.standardise, with_std=self.options.standardise)
        scaler.fit(task.embeddings[rows].astype(np.float64))
        if not task.regression:
            return _Scaling(scaler, 0.0, 1.0)
        return _Scaling(scaler, float(task.labels[rows].mean()), float(task.labels[rows].std()) or 1.0)


def _listed(value: float | list[float]) -> list[float]:
    return sorted(set(value)) if isinstance(value, list) else [value]


def _part(task: ProbeTask, rows: NDArray[np.int64], scaling: _Scaling) -> _Part:
    """Take the clips ``rows`` out of the task, scaled."""
    inputs = torch.from_numpy(scaling.inputs.transform(task.embeddings[rows].astype(np.float64))).float()  # [n, D]
    labels = task.labels[rows]
    kind = kind_of(labels)
    if kind == "number":
        targets = torch.from_numpy((labels - scaling.centre) / scaling.spread).float()[:, None]  # [n, 1]
    elif kind == "several":
        targets = torch.from_numpy(labels).float()  # [n, C]
    else:
        targets = functional.one_hot(torch.from_numpy(labels).long(), len(task.classes)).float()  # [n, C]
    return _Part(inputs, targets, labels, kind)


@hookimpl
def ssl_wb_evaluators() -> list[type[Evaluator]]:
    """Register the linear probe."""
    return [LinearProbe]
