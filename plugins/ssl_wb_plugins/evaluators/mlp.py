"""MLP probe: a small network on standardised, frozen embeddings, as HEAR evaluates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from ssl_wb.api import (
    Evaluator,
    Field,
    Head,
    HeadOptions,
    ProbeTask,
    Rates,
    Result,
    Split,
    TrainedHeads,
    hookimpl,
    probe_splits,
    settings_grid,
    train_heads,
    unfit_parts,
)

Depth = Annotated[int, Field(ge=1, le=8)]


class MlpOptions(HeadOptions):
    """Options of the MLP probe."""

    lr: Rates = Field(
        default_factory=lambda: [3.2e-4, 1e-3],
        description="Adam's learning rate; of several, the validation part chooses. HEAR's go from 1e-4 to 3.2e-3.",
    )
    hidden_layers: Depth | Annotated[list[Depth], Field(min_length=1)] = Field(
        default_factory=lambda: [1, 2], description="Hidden layers; of several counts, the validation part chooses."
    )
    hidden: int = Field(1024, ge=1, description="Width of a hidden layer.")
    dropout: float = Field(0.1, ge=0.0, lt=1.0, description="Fraction of hidden units dropped in training.")
    weight_decay: float = Field(0.0, ge=0.0, description="L2 penalty.")
    epochs: int = Field(100, ge=1, description="Passes over the training clips, at most; HEAR's own is 500.")
    patience: int | None = Field(
        20,
        ge=1,
        description="Stop after so many epochs without a better validation score and keep the best epoch. HEAR's own "
        "is 60 (20 looks, one every third epoch).",
    )


class Mlp(Head):
    """Hidden layers of Linear, BatchNorm, dropout and ReLU, then a Linear: ``[n, D]`` to ``[n, C]``."""

    def __init__(self, width: int, outputs: int, layers: int, hidden: int, dropout: float) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for _ in range(layers):
            parts += [_linear(width, hidden, "relu"), nn.BatchNorm1d(hidden), nn.Dropout(dropout), nn.ReLU()]
            width = hidden
        self.layers = nn.Sequential(*parts, _linear(width, outputs, "linear"))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits ``[n, C]`` of embeddings ``[n, D]``."""
        return self.layers(inputs)


def _linear(width: int, outputs: int, nonlinearity: Any) -> nn.Linear:
    """Return a Linear with Xavier-uniform weights for what follows it, bias 0."""
    layer = nn.Linear(width, outputs)
    nn.init.xavier_uniform_(layer.weight, gain=nn.init.calculate_gain(nonlinearity))
    nn.init.zeros_(layer.bias)
    return layer


class MlpProbe(Evaluator):
    """Trains an MLP of one or two hidden layers; validation chooses depth, learning rate and epoch.

    HEAR's downstream network: hidden layers of 1024 units (Linear, BatchNorm, dropout 0.1, ReLU), Adam, early stopping.
    Differences: embeddings are standardised by the training clips, as in every probe here; batches are smaller and the
    patience is shorter, which suits small sets; the whole grid of learning rates and depths is trained with the first
    seed, where HEAR draws eight points of a larger grid. Closest to HEAR is ``lr = [1e-4, 3.2e-4, 1e-3, 3.2e-3], epochs
    = 500, batch_size = 1024, patience = 60, standardise = false, refit = "never"``. Validation clips that the workbench
    itself held out of the training part are added to it once the settings are chosen.
    """

    name = "mlp"
    reference = "HEAR 2021, arXiv 2203.03022, downstream evaluation"
    Options = MlpOptions
    options: MlpOptions

    def fits(self, task: ProbeTask) -> str | None:
        """Return why no head can be trained on a task, as an empty part of a split; None where one can."""
        return unfit_parts(task)

    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Probe ``task.embeddings`` ``[clips, D]`` with every seed on every split."""
        options = self.options
        grid = settings_grid(hidden_layers=options.hidden_layers, lr=options.lr, weight_decay=options.weight_decay)

        def build(settings: dict[str, Any], shape: torch.Size, outputs: int) -> Mlp:
            return Mlp(shape[0], outputs, settings["hidden_layers"], options.hidden, options.dropout)

        def probe(split: Split) -> TrainedHeads:
            return train_heads(task, split, seeds, grid, build, options)

        return probe_splits(self, task, seeds, probe)


@hookimpl
def ssl_wb_evaluators() -> list[type[Evaluator]]:
    """Register the MLP probe."""
    return [MlpProbe]
