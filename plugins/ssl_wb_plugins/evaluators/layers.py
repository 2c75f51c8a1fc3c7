"""Layer probes: the score of each layer, and of all layers combined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ssl_wb.api import (
    AttentionPool,
    DataError,
    Decays,
    Evaluator,
    Field,
    Head,
    HeadOptions,
    Level,
    LinearHead,
    ProbeTask,
    Rates,
    Result,
    Split,
    SplitScores,
    TrainedHeads,
    hookimpl,
    linear_layer,
    scores_by_seed,
    settings_grid,
    settings_of,
    summarise,
    train_heads,
    unfit_parts,
)

#: Rows that combine or choose layers: their names in options and in tables.
COMBINED = {"weighted-sum": "weighted sum", "attention": "attention over layers", "best-layer": "best layer"}


#: Clips whose weights are computed at a time, to bound memory.
CLIPS_AT_ONCE = 1024


class LayersOptions(HeadOptions):
    """Options of the layer probes."""

    report: Literal["weighted-sum", "attention", "best-layer"] = Field(
        "weighted-sum",
        description="The row that is the headline; the others are in the table too. Validation chooses the best layer.",
    )
    lr: Rates = Field(
        default_factory=lambda: [1e-3, 3e-3],
        description="Adam's learning rate; of several, the validation part chooses.",
    )
    weight_decay: Decays = Field(1e-2, description="L2 penalty on matrices; of several, the validation part chooses.")
    scalar_lr: float = Field(
        50.0,
        gt=0.0,
        description="Learning rate of the weighted sum's scalars over that of the linear layer: some hundred steps at "
        "the latter would leave the softmax close to its start.",
    )
    attention_width: int | None = Field(
        256, ge=1, description="Width of keys and values; AudioMosaic's is the embedding's own, as without a number."
    )
    batch_size: int = Field(64, ge=1, description="Clips per step, at most the clips there are.")
    epochs: int = Field(50, ge=1, description="Passes over the training clips, at most.")


class WeightedSum(Head):
    """A linear layer on the sum of all layers, weighted by a softmax of learned scalars that start at 0."""

    def __init__(self, layers: int, width: int, outputs: int, scalar_lr: float) -> None:
        super().__init__()
        self.scalars = nn.Parameter(torch.zeros(layers))
        self.linear = linear_layer(width, outputs)
        self.scalar_lr = scalar_lr

    def weights(self, inputs: Tensor) -> Tensor:
        """Return the weights of the layers for ``[n, L, D]``, the same for every clip, ``[n, L]``."""
        return self.scalars.softmax(dim=0).expand(len(inputs), -1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits ``[n, C]`` of the layers' embeddings ``[n, L, D]``."""
        return self.linear(torch.einsum("l,nld->nd", self.scalars.softmax(dim=0), inputs))

    def groups(self, settings: dict[str, Any]) -> list[dict[str, Any]]:
        """Return Adam's groups; the scalars have their own learning rate."""
        rate = settings["lr"]
        return [
            {"params": [self.linear.weight], "lr": rate, "weight_decay": settings["weight_decay"]},
            {"params": [self.linear.bias], "lr": rate},
            {"params": [self.scalars], "lr": rate * self.scalar_lr},
        ]


class LayerAttention(AttentionPool):
    """Attention over layers ``[n, L, D]``: one learned query, one head, a LayerNorm for each layer."""


class LayerProbes(Evaluator):
    """One linear probe per layer, a learned weighted sum of all layers, and attention over layers.

    The table has the score of each layer (1 is the first block; the last has the final norm), of the weighted sum (a
    softmax of scalars that start at 0), of the attention over layers, and of the layer with the best validation score:
    the best of the rows above would be chosen on test clips. Each layer's embedding is the mean over the clip's frames,
    standardised by the training clips; AudioMosaic has a LayerNorm before each linear layer instead, which is kept in
    the attention only. ``detail`` has the weights of the layers for a plot.
    """

    name = "layers"
    reference = "AudioMosaic (layer probe, weighted sum, attention over layers); SUPERB, arXiv 2105.01051"
    level: ClassVar[Level] = "layers"
    Options = LayersOptions
    options: LayersOptions

    def fits(self, task: ProbeTask) -> str | None:
        """Return why no head can be trained on a task, as an empty part of a split; None where one can."""
        return unfit_parts(task)

    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Probe ``task.embeddings`` ``[clips, L, D]`` with every seed on every split."""
        if task.embeddings.ndim != 3:
            raise DataError(
                f"task {task.name!r}: the encoder offers one embedding per clip, and layers needs one per layer",
                hint="Use linear for encoders without layers.",
            )
        layers = task.embeddings.shape[1]
        found: dict[str, list[SplitScores]] = {}
        choices: dict[str, dict[str, Any]] = {}
        weights: dict[str, dict[str, list[float]]] = {"weighted-sum": {}, "attention": {}}
        for split in task.splits:
            trained = self._split(task, split, seeds)
            names = [f"layer {number + 1}" for number in range(layers)]
            best = max(names, key=lambda name: trained[name].validation)  # the first of equals
            choices[split.name] = {**{name: one.chosen for name, one in trained.items()}, "best layer": best}
            for name, one in [*trained.items(), (COMBINED["best-layer"], trained[best])]:
                found.setdefault(name, []).append(SplitScores(split, one.scores))
            for kind, by_split in weights.items():
                by_split[split.name] = _mean_weights(trained[COMBINED[kind]])
        table = {name: float(scores_by_seed(task, parts).mean()) for name, parts in found.items()}
        curve = [table[f"layer {number + 1}"] for number in range(layers)]
        headline = COMBINED[self.options.report]
        return summarise(
            task,
            self.name,
            found[headline],
            settings=settings_of(self, seeds, chosen=choices),
            resamples=self.options.resamples,
            table=table,
            detail={
                "per layer": curve,
                "all layers": {name: table[name] for name in COMBINED.values()},
                **{f"{kind} weights": by_split for kind, by_split in weights.items()},
            },
        )

    def _split(self, task: ProbeTask, split: Split, seeds: Sequence[int]) -> dict[str, TrainedHeads]:
        """Train every probe on one split, by name in tables."""
        options = self.options
        grid = settings_grid(lr=options.lr, weight_decay=options.weight_decay)
        layers, width = task.embeddings.shape[1:]

        def train(task: ProbeTask, head: Callable[[int], Head]) -> TrainedHeads:
            return train_heads(task, split, seeds, grid, lambda _, __, outputs: head(outputs), options)

        trained = {
            f"layer {number + 1}": train(
                replace(task, embeddings=task.embeddings[:, number]), lambda outputs: LinearHead(width, outputs)
            )
            for number in range(layers)
        }
        trained[COMBINED["weighted-sum"]] = train(
            task, lambda outputs: WeightedSum(layers, width, outputs, options.scalar_lr)
        )
        trained[COMBINED["attention"]] = train(
            task, lambda outputs: LayerAttention(layers, width, outputs, options.attention_width or width)
        )
        return trained


@torch.no_grad()
def _mean_weights(trained: TrainedHeads) -> list[float]:
    """Return the weight of each layer ``[L]``, mean over seeds and test clips."""
    heads = [head for head in trained.heads if isinstance(head, WeightedSum | LayerAttention)]
    firsts = range(0, len(trained.inputs), CLIPS_AT_ONCE)
    parts = [[head.weights(trained.inputs[first : first + CLIPS_AT_ONCE]) for first in firsts] for head in heads]
    values = torch.stack([torch.cat(part).mean(dim=0) for part in parts]).mean(dim=0)
    return [float(value) for value in values]


@hookimpl
def ssl_wb_evaluators() -> list[type[Evaluator]]:
    """Register the layer probes."""
    return [LayerProbes]
