"""Tests of the evaluator."""

from __future__ import annotations

import numpy as np

from ssl_wb.api import ProbeTask, Split
from ssl_wb.scaffold.templates.evaluator import NewPlugin, NewPluginOptions
from ssl_wb.testing import check_evaluator

LABELS = np.arange(60) % 2


def task(distance: float) -> ProbeTask:
    """Return a task of two classes whose embeddings are so far apart."""
    noise = np.random.default_rng(0).normal(size=(60, 3))  # [clips, D]
    embeddings = (noise + distance * LABELS[:, None]).astype(np.float32)
    split = Split("split", np.arange(30), np.arange(30, 40), np.arange(40, 60))
    return ProbeTask(name="made", embeddings=embeddings, labels=LABELS, classes=("low", "high"), splits=(split,))


def test_it_keeps_the_contract() -> None:
    """Figures, repeatability, test labels, tasks it cannot do: everything that the workbench asks of an evaluator."""
    check_evaluator(NewPlugin, {"resamples": 100})


def test_classes_far_apart_are_told_apart() -> None:
    """The score is 1 where classes do not overlap."""
    assert NewPlugin(NewPluginOptions())(task(20.0), [0]).mean == 1.0


def test_equal_classes_are_at_chance() -> None:
    """The interval contains chance where embeddings tell nothing."""
    low, high = NewPlugin(NewPluginOptions())(task(0.0), [0]).interval
    assert low <= 0.5 <= high
