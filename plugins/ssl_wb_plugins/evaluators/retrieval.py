"""Retrieval: query by example, without training anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ssl_wb.api import (
    DataError,
    Evaluator,
    Field,
    PluginOptions,
    ProbeTask,
    Result,
    Split,
    bootstrap,
    fit_scaler,
    hookimpl,
    interval_of,
    ranked_scores,
    require_labels,
    settings_of,
    sorted_values,
    unfit_labels,
)

Count = Annotated[int, Field(ge=1)]

#: What it asks of labels.
NEEDS = "retrieval needs classes"
#: Queries ranked at a time, to bound memory.
QUERIES_AT_ONCE = 512


class RetrievalOptions(PluginOptions):
    """Options of retrieval."""

    k: Count | Annotated[list[Count], Field(min_length=1)] = Field(
        default_factory=lambda: [1, 10],
        description="Ranks that count; of several, the largest is the headline and the others are in the table.",
    )
    gallery: Literal["train", "leave-one-out"] = Field(
        "train",
        description="Clips that are ranked: the training clips (with validation clips that the workbench itself held "
        "out of them), or all other test clips.",
    )
    standardise: bool = Field(True, description="Scale every dimension to mean 0 and variance 1 of the training clips.")
    resamples: int = Field(1000, ge=100, description="Bootstrap resamples of the interval.")


class Retrieval(Evaluator):
    """Query by example: each test clip ranks the gallery by cosine similarity; clips of its label should come first.

    A clip is relevant if it has the same label, or at least one common label where clips have several. The headline is
    mAP@k with the largest k; the table also has precision@k and the mAP of the whole ranking. Queries without a
    relevant clip in the gallery are left out, with a note. Of equally similar clips the first ranks higher. Nothing is
    random, so seeds change nothing. The interval is a bootstrap over queries.
    """

    name = "retrieval"
    reference = "Manning, Raghavan, Schuetze, Introduction to Information Retrieval 2008, section 8.4"
    Options = RetrievalOptions
    options: RetrievalOptions

    def fits(self, task: ProbeTask) -> str | None:
        """Return why there is nothing to retrieve by; None where there is."""
        return unfit_labels(task, ("single", "several"), NEEDS)

    @torch.no_grad()
    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Query with the test clips of every split; ``task.embeddings`` is ``[clips, D]``."""
        require_labels(task, ("single", "several"), NEEDS, "Use linear or mlp for a task of numbers.")
        cuts = sorted_values(self.options.k)
        found = [self._queries(task, split, cuts) for split in task.splits]  # per split and name [queries]
        headline = f"mAP@{cuts[-1]}"
        table = {name: _mean(np.array([_mean(part[name]) for part in found])) for name in found[0]}
        mean = table.pop(headline)
        return Result(
            task=task.name,
            evaluator=self.name,
            metric=headline,
            mean=mean,
            interval=self._interval([part[headline] for part in found]),
            per_fold={split.name: _mean(part[headline]) for split, part in zip(task.splits, found, strict=True)},
            per_seed=[mean] * len(seeds),
            settings=settings_of(self, seeds),
            notes=(*task.notes, *_left_out(task.splits, [part[headline] for part in found])),
            table=table,
        )

    def _queries(self, task: ProbeTask, split: Split, cuts: Sequence[int]) -> dict[str, NDArray[np.float64]]:
        """Score the queries of one split, each name ``[queries]``."""
        train = np.concatenate([split.train, split.validation]) if split.held_out else split.train
        alone = self.options.gallery == "leave-one-out"
        gallery = split.test if alone else train
        if len(gallery) < 1 + alone:
            raise DataError(
                f"task {task.name!r}, {split.name}: the gallery is empty",
                hint="Leave-one-out needs two test clips; gallery = 'train' needs a training part.",
            )
        scaled = fit_scaler(task, train, self.options.standardise)

        def directions(rows: NDArray[np.int64]) -> torch.Tensor:
            return functional.normalize(torch.from_numpy(scaled(rows)), dim=1)  # [n, D]

        memory = directions(gallery)  # [m, D]
        parts = []
        for start in range(0, len(split.test), QUERIES_AT_ONCE):
            rows = split.test[start : start + QUERIES_AT_ONCE]
            # Rounded, so that copies of a clip are equally similar whatever the order of summation.
            similar = (directions(rows) @ memory.T).round(decimals=9)  # [n, m]
            if alone:
                similar[torch.arange(len(rows)), torch.arange(start, start + len(rows))] = -torch.inf
            order = similar.argsort(dim=1, descending=True, stable=True).numpy()  # [n, m]
            asked, ranked = task.labels[rows], task.labels[gallery]
            same = asked @ ranked.T > 0 if asked.ndim == 2 else asked[:, None] == ranked[None, :]  # [n, m]
            # A similarity of minus infinity put the query itself last in its own ranking: cut it off.
            ranking = np.take_along_axis(same, order, axis=1)[:, : len(gallery) - alone]
            parts.append(ranked_scores(ranking, cuts))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _interval(self, values: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
        """Return the bootstrap interval of the mean over splits, of each split's values ``[queries]``."""
        draws = []
        for number, value in enumerate(values):
            known = value[~np.isnan(value)]
            if not len(known):
                continue  # a fold without a query that has a relevant clip is left out of the mean, too

            def means(weights: NDArray[np.float64], known: NDArray[np.float64] = known) -> NDArray[np.float64]:
                return np.asarray(weights @ known / weights.sum(axis=1))

            draws.append(bootstrap(means, len(known), self.options.resamples, number))
        return interval_of(np.mean(draws, axis=0)) if draws else (float("nan"), float("nan"))


def _mean(values: NDArray[np.float64]) -> float:
    """Mean of the known values (queries with relevant clips, folds with such queries); NaN without any."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _left_out(splits: Sequence[Split], values: Sequence[NDArray[np.float64]]) -> list[str]:
    """Return a note for each split in which queries are left out."""
    counts = [(split.name, int(np.isnan(value).sum()), len(value)) for split, value in zip(splits, values, strict=True)]
    return [
        f"{name}: {missing} of {total} queries have no relevant clip in the gallery and are left out"
        for name, missing, total in counts
        if missing
    ]


@hookimpl
def ssl_wb_evaluators() -> list[type[Evaluator]]:
    """Register retrieval."""
    return [Retrieval]
