"""A step whose loss or gradient is not finite: nothing moves, it is written down, and many in a row end the run."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from ssl_wb.errors import DivergedError
from ssl_wb.training.loop import Trainer
from ssl_wb.training.step import TrainingStep
from ssl_wb.workflows import pretrain as run_module
from ssl_wb.workflows.pretrain import train

SETTINGS = ["train.log_every=1", "train.checkpoint_every=4"]


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def spoil(monkeypatch):
    """Let the spectrogram of steps be full of a value; each of ``times`` times."""

    def spoil_steps(steps, value=math.nan, times=1):
        left = dict.fromkeys(steps, times)
        inputs = TrainingStep.inputs

        def spoilt(self, batch, *, step, **given):
            found = inputs(self, batch, step=step, **given)
            if left.get(step, 0) > 0:
                left[step] -= 1
                return replace(found, spectrogram=torch.full_like(found.spectrogram, value))
            return found

        monkeypatch.setattr(TrainingStep, "inputs", spoilt)

    return spoil_steps


def state_of(trainer):
    optimizer = trainer.optimizer.optimizer.state_dict()["state"]
    moments = {f"{key}/{name}": value for key, entry in optimizer.items() for name, value in entry.items()}
    state = {**trainer.plain_model.state_dict(), **moments}
    return {name: value.clone() for name, value in state.items()}


def test_a_step_that_is_not_finite_moves_nothing_and_is_written_down(recipe, tmp_path, monkeypatch, spoil):
    spoil([5], math.inf)
    before, after = {}, {}

    class Watched(Trainer):
        def update(self, loader):
            done = self.step
            before[done] = state_of(self)
            super().update(loader)
            after[done] = state_of(self)

    monkeypatch.setattr(run_module, "Trainer", Watched)
    run = train(recipe, out=tmp_path / "run", quiet=True, cpu=True, overrides=[*SETTINGS, "train.steps=8"])
    for name, kept in before[5].items():
        assert torch.equal(after[5][name], kept), name
    assert any(not torch.equal(after[6][name], before[6][name]) for name in before[6] if "center" in name)
    assert all(torch.isfinite(weight).all() for weight in after[7].values())
    metrics = rows(run / "metrics.jsonl")
    assert [row["step"] for row in metrics] == [1, 2, 3, 4, 5, 7, 8]
    assert all(math.isfinite(row["loss"]) for row in metrics)
    (skipped,) = rows(run / "skipped.jsonl")
    assert (skipped["step"], skipped["samples_seen"], skipped["seed"], skipped["in_a_row"]) == (6, 48, 3, 1)
    assert skipped["loss"] == "nan"
    assert len(skipped["clips"]) == 8
    assert skipped["clips"][0].keys() == {"epoch", "clip", "path"}


def test_many_in_a_row_send_the_run_back_once_with_half_the_rate(recipe, tmp_path, spoil):
    plain = rows(train(recipe, out=tmp_path / "a", quiet=True, cpu=True, overrides=SETTINGS) / "metrics.jsonl")
    spoil([6, 7, 8, 9])  # after the checkpoint of step 4; that of step 8 is one among them
    run = train(recipe, out=tmp_path / "b", quiet=True, cpu=True, overrides=SETTINGS)
    metrics = rows(run / "metrics.jsonl")
    assert [row["step"] for row in metrics] == list(range(1, 13))
    rates = [(own["learning_rate"], other["learning_rate"]) for own, other in zip(metrics, plain, strict=True)]
    assert [own / other for own, other in rates] == pytest.approx([1.0] * 4 + [0.5] * 8)
    assert [row["step"] for row in rows(run / "skipped.jsonl")] == [7, 8, 9, 10]
    state = json.loads((run / "checkpoints" / "step-00000012" / "state.json").read_text())
    assert (state["lowered"], state["skipped_in_a_row"]) == (True, 0)


def test_many_in_a_row_again_end_the_run(recipe, tmp_path, spoil):
    spoil(range(6, 12), times=9)
    with pytest.raises(
        DivergedError, match=r"loss is nan at step 9, 3 in a row, with half the learning rate"
    ) as caught:
        train(recipe, out=tmp_path / "run", quiet=True, cpu=True, overrides=[*SETTINGS, "train.max_skipped=2"])
    assert caught.value.exit_code == 5
    assert "skipped.jsonl" in caught.value.hint
    assert (tmp_path / "run" / "checkpoints" / "step-00000004").is_dir()  # it is not pruned while steps are skipped


def test_without_a_checkpoint_from_before_the_run_ends(recipe, tmp_path, spoil):
    spoil(range(12))
    with pytest.raises(DivergedError, match=r"nan at step 1, 1 in a row; there was no checkpoint yet"):
        train(recipe, out=tmp_path / "run", quiet=True, cpu=True, overrides=[*SETTINGS, "train.max_skipped=0"])
