"""Nearest-neighbour probe: classification by distances between embeddings, without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ssl_wb.api import (
    Evaluator,
    Field,
    ProbedSplit,
    ProbeOptions,
    ProbeTask,
    Result,
    Split,
    fit_scaler,
    hookimpl,
    model_validator,
    probe_splits,
    score,
    sorted_values,
)

Count = Annotated[int, Field(ge=1)]

#: Test clips whose distances are computed at a time, to bound memory.
CLIPS_AT_ONCE = 512
#: Smallest distance in weights of one over the distance, so that an exact copy does not weigh infinitely.
SMALLEST_DISTANCE = 1e-6


class KnnOptions(ProbeOptions):
    """Options of the nearest-neighbour probe."""

    k: Count | Annotated[list[Count], Field(min_length=1)] = Field(
        default_factory=lambda: [1, 3, 5, 10, 20, 50],
        description="Neighbours that vote; of several counts, the validation part chooses.",
    )
    distance: Literal["cosine", "euclidean"] = Field("cosine", description="Distance between two embeddings.")
    weights: Literal["uniform", "distance", "exponential"] = Field(
        "uniform",
        description="Weights of votes: all equal, one over the distance, or exp(cosine / temperature) as published.",
    )
    temperature: float = Field(0.07, gt=0.0, description="Of exponential weights; Wu et al. take 0.07.")
    refit: Literal["held-out", "always", "never"] = Field(
        "held-out",
        description="Let validation clips vote on test clips: where the workbench itself held them out of "
        "the training part, always, or never.",
    )

    @model_validator(mode="after")
    def _cosine_where_it_is_needed(self) -> KnnOptions:
        if self.weights == "exponential" and self.distance != "cosine":
            raise ValueError("weights = 'exponential' are of cosines; distance is 'euclidean'")
        return self


class KnnProbe(Evaluator):
    """Labels a clip by the votes of its k nearest training clips; k is chosen on validation clips.

    Of equal validation scores the smaller k wins; of classes with equal votes the one with the nearer voters, then the
    first. Nothing is random, so every seed has the same score.
    """

    name = "knn"
    reference = "Wu et al., arXiv 1805.01978, section 3.4 (weighted k-nearest-neighbour probe)"
    Options = KnnOptions
    options: KnnOptions

    @torch.no_grad()
    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Probe ``task.embeddings`` ``[clips, D]`` on every split."""
        return probe_splits(self, task, seeds, lambda split: self._probe(task, split, len(seeds)))

    def _probe(self, task: ProbeTask, split: Split, repeats: int) -> ProbedSplit:
        """Choose k on the validation clips of a split and score its test clips."""
        grid = sorted_values(self.options.k)
        votes = self._votes(task, split.train, split.validation, grid)
        truth = task.labels[split.validation]
        scores = np.nan_to_num([score(truth, votes[count], task.metric) for count in grid])
        best = int(np.argmax(scores))  # the first of equals: the smallest k
        refit = self.options.refits(split)
        voters = np.concatenate([split.train, split.validation]) if refit else split.train
        chosen = {"k": grid[best], "validation": float(scores[best]), "refit": refit}
        test = self._votes(task, voters, split.test, [grid[best]])[grid[best]]  # [n, C]
        return ProbedSplit(np.repeat(test[None], repeats, axis=0), chosen)

    def _votes(
        self, task: ProbeTask, voters: NDArray[np.int64], rows: NDArray[np.int64], grid: Sequence[int]
    ) -> dict[int, NDArray[np.float64]]:
        """Return, for each k, the fraction of the votes of ``voters`` that each class gets for ``rows``, ``[n, C]``."""
        scaled = fit_scaler(task, voters, self.options.standardise)
        memory, queries = torch.from_numpy(scaled(voters)), torch.from_numpy(scaled(rows))  # [m, D], [n, D]
        labels = torch.from_numpy(np.asarray(task.labels[voters]))
        if task.regression:
            labels = labels[:, None]  # [m, 1]: the prediction is the mean of the neighbours' numbers
        elif not task.multi_label:
            labels = functional.one_hot(labels.long(), len(task.classes))
        labels = labels.double()  # [m, C]
        parts = [self._nearest(batch, memory, max(grid)) for batch in torch.split(queries, CLIPS_AT_ONCE)]
        distances = torch.cat([part[0] for part in parts])  # [n, k]
        votes = labels[torch.cat([part[1] for part in parts])]  # [n, k, C]
        return {
            count: self._mean_vote(distances[:, :count], votes[:, :count], numbers=task.regression).numpy()
            for count in grid
        }

    def _nearest(self, queries: Tensor, memory: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Find the nearest of ``memory [m, D]`` to ``queries [n, D]``: distances and indices ``[n, k]``."""
        if self.options.distance == "cosine":
            distances = 1.0 - functional.normalize(queries, dim=1) @ functional.normalize(memory, dim=1).T
        else:
            distances = torch.cdist(queries, memory)
        # Rounded, so that copies of one clip have equal distances whatever the order of summation; the stable sort then
        # takes the first of them.
        ordered, indices = distances.clamp(min=0.0).round(decimals=9).sort(dim=1, stable=True)
        return ordered[:, :count], indices[:, :count]

    def _mean_vote(self, distances: Tensor, votes: Tensor, *, numbers: bool) -> Tensor:
        """Return each class's fraction of votes, or the mean number, ``[n, C]``.

        Args:
            distances: of the neighbours, ``[n, k]``.
            votes: the neighbours' labels, ``[n, k, C]``.
            numbers: whether labels are numbers.
        """
        near = 1.0 / distances.clamp(min=SMALLEST_DISTANCE)  # [n, k]
        if self.options.weights == "exponential":
            near = (-distances / self.options.temperature).softmax(dim=1)  # exp(cosine / temperature) but for a factor
        near = (near / near.sum(dim=1, keepdim=True))[:, :, None]  # [n, k, 1]
        if self.options.weights != "uniform":
            return (votes * near).sum(dim=1)
        if numbers:
            return votes.mean(dim=1)
        # Nearness decides between equal votes; it sums to half a vote at most, so it never outweighs one.
        tie_break = (votes * near).sum(dim=1) / (2 * votes.shape[1])
        return votes.mean(dim=1) + tie_break


@hookimpl
def ssl_wb_evaluators() -> list[type[Evaluator]]:
    """Register the nearest-neighbour probe."""
    return [KnnProbe]
