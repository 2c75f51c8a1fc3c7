"""Probes inside a run: the curve, what 'best' means, that training does not notice, and that no test clip is seen."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_wb.audio.clip import Clip, ClipSet
from ssl_wb.data.workers import StoppedWaitingError
from ssl_wb.errors import DataError, InterruptedRunError, RecipeError
from ssl_wb.runs.checkpoint import find_checkpoint, load_weights
from ssl_wb.tasks.splits import divide
from ssl_wb.tasks.task import LoadedTask, load_task
from ssl_wb.tasks.validation_subset import validation_subset
from ssl_wb.training.loop import Trainer
from ssl_wb.workflows.online_probes import OnlineProbes
from ssl_wb.workflows.pretrain import train

PROBES = """
[[evaluate]]
name = "knn"
task = "{task}"
every = 4
[[evaluate]]
name = "spectrum"
task = "{task}"
every = 6
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Path:
    """Sixty clips of two pitches; the test part has the labels the wrong way round."""
    folder = tmp_path_factory.mktemp("task")
    random = np.random.default_rng(1)
    with (folder / "pitch.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "split"])
        for number in range(60):
            high = number % 2
            time = np.arange(8000) / 16000
            wave = 0.3 * np.sin(2 * np.pi * (300 + 2500 * high) * time) + 0.1 * random.standard_normal(8000)
            soundfile.write(folder / f"{number}.wav", wave, 16000)
            part = ("train", "train", "val", "test")[number // 2 % 4]
            table.writerow([f"{number}.wav", "high" if high != (part == "test") else "low", part])
    return folder / "pitch.csv"


@pytest.fixture
def probed(recipe, task) -> Path:
    recipe.write_text(recipe.read_text() + PROBES.format(task=task))
    return recipe


def rows_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def curve(run: Path) -> list[tuple[int, dict[str, float], bool]]:
    return [(row["step"], row["probe"], row["best"]) for row in rows_of(run) if "probe" in row]


def test_the_curve_begins_untrained_and_has_every_probe_at_its_own_steps(probed, tmp_path):
    found = curve(train(probed, out=tmp_path / "run", quiet=True))
    assert [step for step, _, _ in found] == [0, 4, 6, 8, 12]
    assert [set(figures) for _, figures, _ in found] == [
        {"pitch/knn", "pitch/spectrum"},
        {"pitch/knn"},
        {"pitch/spectrum"},
        {"pitch/knn"},
        {"pitch/knn", "pitch/spectrum"},
    ]
    # The test part's labels are swapped: only validation clips can score so high.
    assert found[-1][1]["pitch/knn"] > 0.9


def test_training_does_not_notice(probed, tmp_path):
    with_probes = train(probed, out=tmp_path / "with", quiet=True)
    probed.write_text(probed.read_text().split("[[evaluate]]")[0])
    without = train(probed, out=tmp_path / "without", quiet=True)
    losses = [[row["loss"] for row in rows_of(run) if "loss" in row] for run in (with_probes, without)]
    assert losses[0] == losses[1]
    ends = [load_weights(run / "checkpoints" / "step-00000012") for run in (with_probes, without)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


@pytest.mark.parametrize("scores", [[0.5, 0.9, 0.2, 0.7], [0.1, 0.1, 0.1, 0.1], [0.1, 0.2, 0.3, float("nan")]])
def test_best_is_the_checkpoint_of_the_best_probe_and_stays_on_disk(probed, tmp_path, monkeypatch, scores):
    """The first of equals; never the untrained encoder at step 0; never a score that is no number."""
    asked = dict(zip([0, 4, 8, 12], [0.95, *scores[:3]], strict=True))

    def told(self, weights, step):
        return ({"pitch/knn": asked[step]}, asked[step]) if step in asked else ({}, None)

    monkeypatch.setattr(OnlineProbes, "__call__", told)
    run = train(probed, out=tmp_path / "run", quiet=True, overrides=["train.keep_checkpoints=1"])
    after = {step: value for step, value in asked.items() if step and not np.isnan(value)}
    expected = max(after, key=lambda step: (after[step], -step))
    best = find_checkpoint(run / "checkpoints", "best")
    assert best is not None
    assert best.name == f"step-{expected:08d}"
    assert load_weights(best)


def test_less_is_better_where_the_metric_says_so(probed, tmp_path):
    run = train(probed, out=tmp_path / "run", quiet=True, overrides=["evaluate.0.metric='EER'"])
    best, found = float("inf"), []
    for step, figures, marked in curve(run):
        score = figures.get("pitch/knn", float("inf"))
        found.append(marked == (step > 0 and score < best))
        best = min(best, score) if step else best
    assert all(found)
    assert any(marked for _, _, marked in curve(run))


def test_a_stopped_run_goes_on_with_the_same_curve(probed, tmp_path, monkeypatch):
    whole = train(probed, out=tmp_path / "whole", quiet=True)
    update = Trainer.update

    def stopping(self, loader):
        update(self, loader)
        if self.step == 7:
            self._signal.number = 15

    monkeypatch.setattr(Trainer, "update", stopping)
    with pytest.raises(InterruptedRunError):
        train(probed, out=tmp_path / "parts", quiet=True)
    monkeypatch.setattr(Trainer, "update", update)
    parts = train(probed, out=tmp_path / "parts", resume=True, quiet=True)
    assert curve(parts) == curve(whole)
    assert (parts / "checkpoints/best").read_text() == (whole / "checkpoints/best").read_text()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("evaluate.0.every=0", "0 is no stretch of training"),
        ("evaluate.0.name='fine-tune'", "trains the encoder itself"),
        ("evaluate.0.metric='R2'", "labels are not numbers"),
    ],
)
def test_what_cannot_be_probed_is_said_before_training(probed, tmp_path, setting, message):
    with pytest.raises(RecipeError, match=message):
        train(probed, out=tmp_path / "run", quiet=True, overrides=[setting])
    assert not (tmp_path / "run").exists()


def fake(count: int, labels: np.ndarray, **columns: list[str]) -> LoadedTask:
    clips = tuple(
        Clip(Path(f"{n}.wav"), id=n, **{name: value[n] for name, value in columns.items()}) for n in range(count)
    )
    splits, notes = divide(clips, labels, "fake.csv")
    return LoadedTask(
        "fake", ClipSet(clips, Path("fake.csv"), "0"), labels, ("a", "b", "c"), tuple(splits), tuple(notes)
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(60, 200), st.integers(20, 300), st.sampled_from(["split", "fold", None]))
def test_a_selection_has_no_test_clip_and_divides_the_rest(seed, count, most, column):
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    parts = {
        "split": {"split": [("train", "train", "train", "val", "test")[n // 3 % 5] for n in range(count)]},
        "fold": {"fold": [str(n // 3 % 4) for n in range(count)]},
        None: {},
    }[column]
    task = fake(count, random.permuted(labels) if column is None else labels, **parts)
    chosen = validation_subset(task, most)
    (split,) = chosen.splits
    used = np.concatenate([split.train, split.validation, split.test])
    assert sorted(used) == list(range(len(chosen.clips)))  # each clip in one part
    names = {int(clip.path.stem) for clip in chosen.clips}
    assert not names & set(task.splits[0].test.tolist())
    assert len(chosen.clips) <= max(most, 0) + 6  # a class gives one clip at least, to each part
    assert [int(task.labels[int(clip.path.stem)]) for clip in chosen.clips] == chosen.labels.tolist()
    if column == "split":
        reported = {int(chosen.clips[int(row)].path.stem) for row in split.test}
        assert reported <= set(task.splits[0].validation.tolist())


def test_a_selection_of_a_manifest_says_what_is_too_few(tmp_path, task):
    with (tmp_path / "few.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "split"])
        for number, part in enumerate(["train", "train", "train", "train", "test", "test"]):
            table.writerow([task.parent / f"{number}.wav", "low" if number % 2 else "high", part])
    with pytest.raises(DataError, match="too few to hold some out"):
        validation_subset(load_task(tmp_path / "few.csv"), 100)


def test_a_stop_while_waiting_for_data_does_not_probe_or_save_a_step_twice(probed, tmp_path, monkeypatch):
    waited = Trainer._backward_all

    def stopped(self, loader, measure):
        if self.step == 4:  # probed and saved
            raise StoppedWaitingError
        return waited(self, loader, measure)

    monkeypatch.setattr(Trainer, "_backward_all", stopped)
    with pytest.raises(InterruptedRunError, match="stopped at step 4"):
        train(probed, out=tmp_path / "run", quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "probe" in row] == [0, 4]


def test_a_probe_that_fails_costs_its_own_score_and_nothing_else(probed, tmp_path, monkeypatch, caplog):
    plain = train(probed, out=tmp_path / "plain", quiet=True)
    run = OnlineProbes._run

    def failing(self, probe, embedded):
        if probe.name == "knn" and self.calls == 1:
            self.calls += 1
            raise ZeroDivisionError("no neighbours")
        self.calls = getattr(self, "calls", 0) + (probe.name == "knn")
        return run(self, probe, embedded)

    monkeypatch.setattr(OnlineProbes, "calls", 0, raising=False)
    monkeypatch.setattr(OnlineProbes, "_run", failing)
    failed = train(probed, out=tmp_path / "failed", quiet=True)
    assert "step 4: probe knn on pitch failed: ZeroDivisionError: no neighbours" in caplog.text
    weights = [load_weights(find_checkpoint(one / "checkpoints")) for one in (plain, failed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    rows = [json.loads(line) for line in (failed / "metrics.jsonl").read_text().splitlines()]
    curve = {row["step"]: sorted(row["probe"]) for row in rows if "probe" in row}
    assert curve[0] == ["pitch/knn", "pitch/spectrum"]
    assert curve[4] == []
