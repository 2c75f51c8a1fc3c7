"""Schedules, optimiser groups, health, run folder, checkpoints: the pieces of training one by one."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ssl_wb.errors import RunFolderError
from ssl_wb.plugin.objective import HealthRule
from ssl_wb.recipe.plugin_selection import PluginSelection
from ssl_wb.recipe.schema import TrainSection
from ssl_wb.runs.device import mixed_precision
from ssl_wb.runs.folder import RunFolder
from ssl_wb.training.health import HealthMonitor
from ssl_wb.training.optimizer import build_optimizer
from ssl_wb.training.schedule import learning_rate, total_steps
from ssl_wb_plugins.optimisers.adamw import AdamW


def adamw(**options):
    return PluginSelection("optimiser", "adamw", AdamW, AdamW.Options(**options), None)


def test_lengths_of_a_run():
    assert total_steps(TrainSection(steps=7), 100) == 7
    assert total_steps(TrainSection(epochs=2, batch_size=64), 100) == 4  # 200 clips, the last batch only part new
    assert total_steps(TrainSection(samples=129, batch_size=64), 100) == 3
    assert total_steps(TrainSection(epochs=300, batch_size=2048), 2_012_615) == pytest.approx(294_816, rel=1e-4)


def test_learning_rate_of_the_paper():
    optimizer, train = adamw(lr=3e-4).options, TrainSection(steps=294_816, warmup=19_654)
    assert learning_rate(optimizer, train, 0, 294_816) == pytest.approx(3e-4 / 19_654)
    assert learning_rate(optimizer, train, 19_653, 294_816) == pytest.approx(3e-4)
    middle = 19_654 + (294_816 - 19_654) // 2
    assert learning_rate(optimizer, train, middle, 294_816) == pytest.approx(1.5e-4)
    assert learning_rate(optimizer, train, 294_816, 294_816) == pytest.approx(0.0, abs=1e-12)


@given(st.integers(1, 500), st.floats(0.0, 1.0), st.floats(0.0, 1e-3))
def test_learning_rate_stays_between_its_ends(steps, warmup, floor):
    optimizer, train = adamw(lr=1e-3, min_lr=floor).options, TrainSection(steps=steps, warmup=warmup)
    for step in range(steps):
        assert 0 < learning_rate(optimizer, train, step, steps) <= 1e-3 + 1e-12


def test_matrices_decay_and_the_rest_does_not_unless_asked():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 4)
            self.token = nn.Parameter(torch.zeros(1, 1, 5))
            self.frozen = nn.Linear(2, 2).requires_grad_(False)

    model = Model()
    groups = build_optimizer(adamw(), model).param_groups
    assert [p.shape for p in groups[0]["params"]] == [(4, 3)]
    assert {tuple(p.shape) for p in groups[1]["params"]} == {(4,), (1, 1, 5)}
    assert (groups[0]["weight_decay"], groups[1]["weight_decay"]) == (0.05, 0.0)
    everything = build_optimizer(adamw(decay_all=True), model).param_groups
    assert len(everything) == 1
    assert len(everything[0]["params"]) == 3


def test_precision_words():
    cpu = torch.device("cpu")
    assert mixed_precision("fp32", cpu) == "no"
    assert mixed_precision("bf16", cpu) == "bf16"
    assert mixed_precision("auto", cpu) in ("no", "bf16")
    assert mixed_precision("auto", torch.device("mps")) == "no"


def test_a_rule_speaks_once_after_three_bad_measurements_and_again_after_recovery():
    monitor = HealthMonitor([HealthRule("x.std", "it collapses", below=0.1, after=0.5)])
    assert [monitor.check({"x.std": 0.0}, 400, 1000) for _ in range(5)] == [[]] * 5
    assert [monitor.check({"x.std": 0.0}, 199, 200) for _ in range(5)] == [[]] * 5  # a short run has not settled
    said = [monitor.check({"x.std": value}, 600, 1000) for value in (0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0)]
    assert [len(messages) for messages in said] == [0, 0, 1, 0, 0, 0, 0, 1]
    assert said[2] == ["x.std = 0, below 0.1: it collapses"]
    assert monitor.ailing() == ["x.std"]


def test_rules_above_and_absent_metrics():
    monitor = HealthMonitor([HealthRule("share", "one takes all", above=0.9)])
    assert monitor.check({"other": 1.0}, 50, 100) == []
    assert [monitor.check({"share": 0.95}, 50, 100) for _ in range(3)][-1] == ["share = 0.95, above 0.9: one takes all"]


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_a_taken_folder_is_refused_and_both_ways_out_are_named(folder):
    folder.prepare(resume=False, overwrite=False)
    folder.resolved.write_text("title = 'x'")
    with pytest.raises(RunFolderError) as caught:
        folder.prepare(resume=False, overwrite=False)
    assert "--resume" in caught.value.hint
    assert "--overwrite" in caught.value.hint
    folder.prepare(resume=True, overwrite=False)
    folder.prepare(resume=False, overwrite=True)
    assert not folder.resolved.exists()


def test_a_folder_that_is_no_run_is_never_overwritten(folder):
    folder.path.mkdir()
    (folder.path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunFolderError, match="not empty"):
        folder.prepare(resume=False, overwrite=True)
    assert (folder.path / "thesis.tex").read_text() == "years of work"


def test_there_must_be_something_to_resume(folder):
    with pytest.raises(RunFolderError, match="no run to resume"):
        folder.prepare(resume=True, overwrite=False)


def test_metrics_after_the_checkpoint_and_half_lines_are_cut(folder):
    folder.prepare(resume=False, overwrite=False)
    for step in (1, 2, 3):
        folder.append_metrics({"step": step})
    with folder.metrics.open("a") as file:
        file.write('{"step": 4, "lo')
    folder.cut_metrics(2)
    assert [json.loads(line)["step"] for line in folder.metrics.read_text().splitlines()] == [1, 2]
