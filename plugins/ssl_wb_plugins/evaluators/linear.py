"""Linear probe: one linear layer on standardised, frozen embeddings."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_wb.api import (
    Decays,
    Evaluator,
    Field,
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
    unfit_parts,
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

    EVAR's linear evaluation with two changes. First, one learning rate suits only data sets of one size, so a small
    grid of learning rates and weight decays is trained with the first seed, and every seed is trained with the one of
    the best validation score (of equal scores, the lower loss). Second, weight decay instead of early stopping prevents
    overfitting of small sets: with some tens of validation clips the best epoch is mostly chance, and costs 2 to 4
    points. Validation clips that the workbench itself held out of the training part are added to it once the settings
    are chosen. Test clips are read once, at the end.

    The default weight decays are those of scikit-learn's logistic regression with C = 1, one over the number of clips,
    for some hundred to a thousand clips; they were set by agreement with it on log-mel statistics of four tasks. EVAR's
    own protocol is ``lr = 3e-5, weight_decay = 1e-8, patience = 20, refit = "never"``.
    """

    name = "linear"
    reference = "EVAR lineareval (arXiv 2210.14648, linear evaluation)"
    Options = LinearOptions
    options: LinearOptions

    def fits(self, task: ProbeTask) -> str | None:
        """Return why no head can be trained on a task, as an empty part of a split; None where one can."""
        return unfit_parts(task)

    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Probe ``task.embeddings`` ``[clips, D]`` with every seed on every split."""
        grid = settings_grid(lr=self.options.lr, weight_decay=self.options.weight_decay)

        def probe(split: Split) -> TrainedHeads:
            return train_heads(
                task, split, seeds, grid, lambda _, shape, outputs: LinearHead(shape[0], outputs), self.options
            )

        return probe_splits(self, task, seeds, probe)


@hookimpl
def ssl_wb_evaluators() -> list[type[Evaluator]]:
    """Register the linear probe."""
    return [LinearProbe]
