"""Linear probe: one linear layer on standardised, frozen embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ssl_wb.api import (
    Decays,
    Evaluator,
    Field,
    Head,
    HeadOptions,
    LinearHead,
    ProbeTask,
    Rates,
    Result,
    Split,
    TrainedHeads,
    hookimpl,
    probe_splits,
    settings_grid,
    train_heads,
)


class LinearOptions(HeadOptions):
    """Options of the linear probe."""

    lr: Rates = Field(
        default_factory=lambda: [3e-4, 1e-3, 3e-3],
        description="Adam's learning rate; of several, the validation part chooses. EVAR's own is 3e-5.",
    )
    weight_decay: Decays = Field(
        default_factory=lambda: [1e-3, 3e-3],
        description="L2 penalty; of several, the validation part chooses. EVAR's own is 1e-8.",
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="Stop after so many epochs without a better validation score and keep the best epoch; "
        "EVAR's own is 20. All epochs are trained and the last one is kept unless given.",
    )


class LinearProbe(Evaluator):
    """Trains one linear layer on standardised embeddings; validation chooses learning rate and weight decay.

    EVAR's linear evaluation with two changes. One learning rate suits only sets of one size, so a small grid
    of rates and weight decays is trained with the first seed, and the best validation score (of equal ones
    the lower loss) decides what every seed is trained with. And weight decay, not an early stop, keeps small
    sets from being overfitted: the best epoch of some tens of validation clips is mostly luck and costs 2 to
    4 points there. Validation clips that the workbench itself held out of the training part go back to it
    once the choice is made. Test clips are read once, at the end. scikit-learn's logistic regression with C = 1 decays
    by one over the number of clips, which the default decays stand around for some hundred clips to a thousand;
    agreement with it on log-mel statistics of four tasks settled them. EVAR's own protocol is
    ``lr = 3e-5, weight_decay = 1e-8, patience = 20, refit = "never"``.
    """

    name = "linear"
    reference = "EVAR lineareval (arXiv 2210.14648, linear evaluation)"
    Options = LinearOptions
    options: LinearOptions

    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Probe ``task.embeddings`` ``[clips, D]`` with every seed on every split."""
        grid = settings_grid(lr=self.options.lr, weight_decay=self.options.weight_decay)

        def probe(split: Split) -> TrainedHeads:
            return train_heads(task, split, seeds, grid, _build, self.options)

        return probe_splits(self, task, seeds, probe)


def _build(settings: dict[str, Any], shape: torch.Size, outputs: int) -> Head:
    return LinearHead(shape[0], outputs)


@hookimpl
def ssl_wb_evaluators() -> list[type[Evaluator]]:
    """Register the linear probe."""
    return [LinearProbe]
