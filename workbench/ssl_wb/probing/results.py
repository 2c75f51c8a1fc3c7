"""From a probe of each split to the result of the task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ssl_wb.plugin.evaluator import Evaluator, ProbeTask, Result, Split, SplitScores
from ssl_wb.probing.training import TrainedHeads
from ssl_wb.scoring.summary import summarise

__all__ = ["ProbedSplit", "probe_splits", "settings_of"]


class ProbedSplit(NamedTuple):
    """What a probe made of one split.

    Attributes:
        scores: of the test clips, ``[seeds, n, C]``.
        chosen: what validation chose, in plain values, for the record.
    """

    scores: NDArray[Any]
    chosen: dict[str, Any]


def settings_of(evaluator: Evaluator, seeds: Sequence[int], **more: Any) -> dict[str, Any]:
    """Return the settings to record in a result: the evaluator's options, the seeds and more, in plain values."""
    return {**evaluator.options.model_dump(), "seeds": list(seeds), **more}


def probe_splits(
    evaluator: Evaluator,
    task: ProbeTask,
    seeds: Sequence[int],
    probe: Callable[[Split], ProbedSplit | TrainedHeads],
    **settings: Any,
) -> Result:
    """Probe every split of a task and summarise.

    Args:
        evaluator: its options go into the result's settings; they have ``resamples``.
        task: the task.
        seeds: one repetition each.
        probe: called with each split; returns a :class:`ProbedSplit`, or the :class:`ssl_wb.api.TrainedHeads` of
            :func:`ssl_wb.api.train_heads`.
        **settings: more to record.

    Raises:
        DataError: the task's metric does not fit its labels.
    """
    probed = {split.name: probe(split) for split in task.splits}
    return summarise(
        task,
        evaluator.name,
        [SplitScores(split, one.scores) for split, one in zip(task.splits, probed.values(), strict=True)],
        settings=settings_of(evaluator, seeds, **settings, chosen={name: one.chosen for name, one in probed.items()}),
        resamples=evaluator.options.resamples,
    )
