"""The checks of an evaluator."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from ssl_wb.errors import DataError
from ssl_wb.plugin.contract_checks import refuse
from ssl_wb.plugin.evaluator import Evaluator, ProbeTask, Result, level_of
from ssl_wb.plugin.result_checks import probe, unfit_reason
from ssl_wb.testing.checks import Checks, Subject
from ssl_wb.testing.options_checks import common_checks
from ssl_wb.testing.probe_tasks import KINDS_OF_LABELS, LabelKind, tiny_task

__all__ = ["CHECKS", "check_evaluator"]

#: Repetitions of each probe.
SEEDS = (0, 1)

CHECKS: Checks[_Evaluator] = Checks("evaluator", common_checks())


@dataclass(frozen=True)
class _Evaluator(Subject[Evaluator]):
    """An evaluator under test, and the kind of labels that it is tried on."""

    labels: LabelKind = "single"
    given: ProbeTask | None = None

    def task(self, labels: LabelKind | None = None) -> ProbeTask:
        """Return the task."""
        if self.given is not None and labels is None:
            return self.given
        return tiny_task(level_of(self.plugin), labels or self.labels)

    @cached_property
    def first(self) -> Result:
        """The result of its first probe of the task."""
        return probe(self.build(), self.task(), SEEDS)


def check_evaluator(
    plugin: type[Evaluator],
    options: Mapping[str, Any] | None = None,
    *,
    labels: LabelKind = "single",
    task: ProbeTask | None = None,
    skip: Collection[str] = (),
) -> None:
    """Hold an evaluator to its contract. Give options that make it fast: it probes a small task several times.

    Args:
        plugin: the class.
        options: options that differ from their defaults.
        labels: the task's: ``single``, one class per clip; ``several``; or ``number``.
        task: a task of your own, for an evaluator that needs more than embeddings and labels.
        skip: names of checks to leave out.

    Raises:
        ContractError: the first check that fails.
    """
    CHECKS.run(_Evaluator(plugin, options or {}, labels, task), skip)


def _same(first: Any, second: Any) -> bool:
    """Whether two results, or parts of them, are equal; NaN equals NaN."""
    if isinstance(first, np.ndarray):
        return isinstance(second, np.ndarray) and np.allclose(first, second, rtol=1e-5, atol=1e-6, equal_nan=True)
    return json.dumps(first, default=str) == json.dumps(second, default=str)


def _scores(result: Result) -> list[Any]:
    return [part.scores for part in result.scores]


@CHECKS
def result(subject: _Evaluator) -> None:
    """It returns a Result: finite figures, one per seed and split, an interval around the mean, settings that JSON
    holds.
    """
    found = subject.first
    if len(found.per_seed) != len(SEEDS):
        refuse(subject.build(), f"return one score per seed, {len(SEEDS)} here", f"{len(found.per_seed)}")


@CHECKS
def repeatable(subject: _Evaluator) -> None:
    """The same task and seeds have the same result, whatever torch's global generator holds."""
    evaluator, task, first = subject.build(), subject.task(), subject.first
    torch.manual_seed(99)
    second = probe(evaluator, task, SEEDS)
    for name, one, other in (
        ("mean", first.mean, second.mean),
        ("per_seed", first.per_seed, second.per_seed),
        ("table", first.table, second.table),
        ("settings", first.settings, second.settings),
    ):
        if not _same(one, other):
            refuse(evaluator, "give the same result for the same task and seeds", f"another {name} the second time")


@CHECKS
def test_labels_unseen(subject: _Evaluator) -> None:
    """Nothing is chosen or trained with test clips: with other test labels, settings and test scores are the same."""
    evaluator, task = subject.build(), subject.task()
    first, split = subject.first, task.splits[0]
    labels = task.labels.copy()
    labels[split.test] = np.roll(labels[split.test], 1, axis=0)
    second = probe(evaluator, replace(task, labels=labels), SEEDS)
    if not _same(first.settings, second.settings):
        refuse(evaluator, "choose settings on validation clips", "other settings with other test labels")
    if not all(_same(one, other) for one, other in zip(_scores(first), _scores(second), strict=True)):
        refuse(evaluator, "score test clips without their labels", "other test scores with other test labels")


@CHECKS
def task_unchanged(subject: _Evaluator) -> None:
    """It changes neither embeddings nor labels, which are read-only, nor the encoder's weights."""
    evaluator, task = subject.build(), subject.task()
    labels = task.labels.copy()
    encoder = task.encoder if isinstance(task.encoder, nn.Module) else None
    weights = copy.deepcopy(encoder.state_dict()) if encoder is not None else {}
    evaluator(task, SEEDS[:1])  # embeddings cannot be written: that is an error of its own
    if not np.array_equal(labels, task.labels):
        refuse(evaluator, "leave task.labels as they are", "other labels afterwards")
    if encoder is not None and any(not torch.equal(weights[name], now) for name, now in encoder.state_dict().items()):
        refuse(evaluator, "train a copy of task.encoder, never the encoder itself", "other weights afterwards")


@CHECKS
def fits(subject: _Evaluator) -> None:
    """For every kind of labels, ``fits`` says why it cannot do the task, or it does it."""
    evaluator = subject.build()
    for labels in KINDS_OF_LABELS:
        task = subject.task(labels)
        reason = unfit_reason(evaluator, task)
        if reason is None:
            try:
                probe(evaluator, task, SEEDS[:1])
            except DataError as error:
                contract = f"say in `fits` that it cannot do a task of {labels} labels"
                refuse(evaluator, contract, f"None, and then DataError: {error.message}")
