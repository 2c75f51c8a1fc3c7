"""An evaluator: how good are frozen embeddings at a task?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssl_wb.api import (
    Evaluator,
    Field,
    PluginOptions,
    ProbedSplit,
    ProbeTask,
    Result,
    Split,
    fit_scaler,
    hookimpl,
    probe_splits,
    unfit_labels,
)


class NewPluginOptions(PluginOptions):
    """Options: every one has bounds and a description."""

    resamples: int = Field(1000, ge=20, description="Bootstrap resamples of the confidence interval.")


class NewPlugin(Evaluator):
    """Labels a clip by the nearest mean of a class, over standardised embeddings.

    Nothing is chosen and nothing is random, so every seed has the same score.
    """

    name = "new-plugin"
    reference = ""
    Options = NewPluginOptions
    options: NewPluginOptions

    def fits(self, task: ProbeTask) -> str | None:
        """Return why it cannot do a task, which the user gets in place of a score."""
        return unfit_labels(task, ["single"], "it needs one class per clip")

    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Probe ``task.embeddings`` ``[clips, D]`` on every split."""

        def probe(split: Split) -> ProbedSplit:
            scaled = fit_scaler(task, split.train, standardise=True)
            train, test = scaled(split.train), scaled(split.test)  # [m, D], [n, D]
            labels = task.labels[split.train]  # [m]
            means = np.full((len(task.classes), train.shape[1]), 1e6)  # [C, D]; far away without a training clip
            for number in np.unique(labels):
                means[number] = train[labels == number].mean(axis=0)
            scores = -np.linalg.norm(test[:, None] - means[None], axis=2)  # [n, C], higher is likelier
            return ProbedSplit(np.repeat(scores[None], len(seeds), axis=0), {})

        return probe_splits(self, task, seeds, probe)


@hookimpl
def ssl_wb_evaluators() -> list[type[Evaluator]]:
    """Offer this evaluator."""
    return [NewPlugin]
