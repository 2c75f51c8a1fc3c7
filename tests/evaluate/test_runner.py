"""Who is probed, in which order, how often clips are embedded, and how two encoders are compared."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from task_fakes import Deaf, Spectrum, labelled, write_manifest

from ssl_wb.errors import DataError, UsageError, WorkbenchError
from ssl_wb.evaluate import runner
from ssl_wb.evaluate.runner import difference, evaluate_run, probe
from ssl_wb.evaluate.tasks import load_task
from ssl_wb.registry import load_registry


@pytest.fixture
def task(tmp_path):
    return load_task(write_manifest(tmp_path, labelled(120, classes="abc", split=lambda n: ["train", "test"][n // 60])))


@pytest.fixture(scope="module")
def evaluators():
    registry = load_registry()
    kinds = {name: registry.get("evaluator", name) for name in ("linear", "knn")}
    options = {"linear": {"epochs": 20}, "knn": {}}
    return [(name, kind(kind.Options(**options[name]))) for name, kind in kinds.items()]


def test_rows_of_every_encoder_task_and_evaluator_embedding_once(task, evaluators):
    encoders = {"hears": Spectrum(), "deaf": Deaf()}
    other = replace(task, name="other")
    rows = probe(encoders, [task, other], evaluators, seeds=(0, 1))
    assert [(row.encoder, row.task, row.evaluator) for row in rows] == [
        (encoder, name, kind) for encoder in encoders for name in ("task", "other") for kind in ("linear", "knn")
    ]
    # Both evaluators used one embedding: every clip went through the encoder once per task.
    assert sum(clips for clips, _ in encoders["hears"].batches) == 2 * 120
    means = {(row.encoder, row.evaluator): row.result.mean for row in rows if row.task == "task"}
    assert means["hears", "linear"] == means["hears", "knn"] == 1.0
    assert means["deaf", "linear"] < 0.6
    assert rows[0].chance == pytest.approx(1 / 3)
    assert rows[0].result.notes == task.notes


def test_rows_are_json(task, evaluators):
    (row,) = probe({"hears": Spectrum()}, [task], evaluators[:1], seeds=range(2))
    values = json.loads(json.dumps(row.as_json()))
    assert {key: values[key] for key in ("encoder", "role", "task", "evaluator", "metric", "mean")} == {
        "encoder": "hears",
        "role": "encoder",
        "task": "task",
        "evaluator": "linear",
        "metric": "accuracy",
        "mean": 1.0,
    }
    assert len(values["per_seed"]) == 2
    assert "per_clip" not in values


def test_progress_tells_what_is_done(task, evaluators):
    told = []
    probe({"hears": Spectrum()}, [task], evaluators, progress=lambda *news: told.append(news))
    assert told[-3:] == [
        ("embedding: hears on task", 120, 120),
        ("linear: hears on task", 120, 120),
        ("knn: hears on task", 120, 120),
    ]


def test_nothing_to_do_is_refused_before_embedding(task, evaluators):
    encoder = Spectrum()
    for encoders, tasks, kinds, seeds, missing in [
        ({}, [task], evaluators, (0,), "encoder"),
        ({"x": encoder}, [], evaluators, (0,), "task"),
        ({"x": encoder}, [task], [], (0,), "evaluator"),
        ({"x": encoder}, [task], evaluators, (), "seed"),
    ]:
        with pytest.raises(UsageError, match=f"no {missing} to probe with"):
            probe(encoders, tasks, kinds, seeds)
    with pytest.raises(UsageError, match="two tasks are named 'task'"):
        probe({"x": encoder}, [task, task], evaluators)
    assert encoder.batches == []


def test_a_run_is_compared_with_its_untrained_self_and_plain_statistics(task, evaluators, tmp_path, monkeypatch):
    asked = []

    def load(run, **options):
        asked.append((run.name, options))
        return Deaf() if options.get("untrained") else Spectrum()

    monkeypatch.setattr("ssl_wb.encoder.load.load_encoder", load)
    run = tmp_path / "fine run"
    rows = evaluate_run(run, [task], evaluators[:1], (0,), checkpoint="best")
    assert [(row.encoder, row.role) for row in rows] == [
        ("fine run", "encoder"),
        ("fine run, untrained", "untrained"),
        ("log-mel mean+std", "baseline"),
        ("log-mel 8 segments", "baseline"),
    ]
    assert asked[0][1]["checkpoint"] == "best"
    plain = evaluate_run(run, [task], evaluators[:1], (0,), with_untrained=False, with_baselines=False)
    assert [row.role for row in plain] == ["encoder"]


def test_no_run_is_refused(task, evaluators, tmp_path):
    with pytest.raises(WorkbenchError, match="not a run folder"):
        evaluate_run(tmp_path, [task], evaluators)


def test_the_difference_of_two_encoders_is_paired(task, evaluators):
    rows = probe({"hears": Spectrum(), "deaf": Deaf()}, [task], evaluators[:1], seeds=(0,))
    good, bad = (row.result for row in rows)
    mean, low, high = difference(good, bad)
    assert mean == pytest.approx(good.mean - bad.mean, abs=1e-6)
    assert 0 < low < mean < high
    assert difference(good, good) == (0.0, 0.0, 0.0)
    assert difference(bad, good)[0] == pytest.approx(-mean)


def test_a_paired_interval_is_narrower_than_two_separate_ones(task, evaluators):
    (row,) = probe({"deaf": Deaf()}, [task], evaluators[:1], seeds=(0,))
    better = row.result.per_clip.copy()
    better[np.flatnonzero(better == 0)[:2]] = 1.0
    _, low, high = difference(replace(row.result, per_clip=better), row.result)
    assert high - low < 0.5 * (row.result.interval[1] - row.result.interval[0])


def test_results_that_cannot_be_paired_are_refused(task, evaluators):
    (row,) = probe({"hears": Spectrum()}, [task], evaluators[:1], seeds=(0,))
    result = row.result
    with pytest.raises(DataError, match="no score per clip"):
        difference(result, replace(result, per_clip=None))
    shifted = np.roll(result.per_clip, 5)
    with pytest.raises(DataError, match="not of the same test clips"):
        difference(result, replace(result, per_clip=shifted))
    with pytest.raises(DataError, match="not of the same test clips"):
        difference(result, replace(result, task="another"))


def test_defaults_are_three_seeds():
    assert runner.probe.__defaults__[0] == (0, 1, 2)
