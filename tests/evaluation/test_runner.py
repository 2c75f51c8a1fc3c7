"""Who is probed, in which order, how often clips are embedded, and how two encoders are compared."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.errors import UsageError, WorkbenchError
from ssl_wb.evaluation import runner
from ssl_wb.evaluation.encoders import encoder_names, encoders_to_compare
from ssl_wb.evaluation.runner import evaluate_runs, probe
from ssl_wb.plugin.evaluator import level_of
from ssl_wb.plugin.registry import load_registry
from ssl_wb.tasks.task import load_task
from ssl_wb_plugins.front_ends.log_mel import LogMel
from task_fakes import Deaf, Spectrum, labelled, write_manifest


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
    assert values["std"] == 0.0
    assert values["table"]["macro F1"] == 1.0
    assert not {"per_clip", "scores", "labels"} & set(values)


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
    rows = evaluate_runs([run], [task], evaluators[:1], (0,), checkpoint="best")
    assert [(row.encoder, row.role) for row in rows] == [
        ("fine run", "encoder"),
        ("fine run, untrained", "untrained"),
        ("log-mel mean+std", "baseline"),
        ("log-mel 8 segments", "baseline"),
    ]
    assert asked[0][1]["checkpoint"] == "best"
    plain = evaluate_runs([run], [task], evaluators[:1], (0,), with_untrained=False, with_baselines=False)
    assert [row.role for row in plain] == ["encoder"]


def test_no_run_is_refused(task, evaluators, tmp_path):
    with pytest.raises(WorkbenchError, match="not a run folder"):
        evaluate_runs([tmp_path], [task], evaluators)


def test_several_runs_share_one_table_and_one_pair_of_baselines(task, evaluators, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ssl_wb.encoder.load.load_encoder", lambda run, **options: Deaf() if options.get("untrained") else Spectrum()
    )
    runs = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    rows = evaluate_runs(runs, [task], evaluators[1:], (0,))
    assert [row.encoder for row in rows] == [
        *("a/run", "a/run, untrained", "b/run", "b/run, untrained"),
        *("log-mel mean+std", "log-mel 8 segments"),
    ]


class Started(Spectrum):
    """An encoder that its settings tell from others."""

    def __init__(self, start):
        super().__init__()
        self.settings = {"start": start}


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Three runs by name, of which the first two started from the same weights."""
    starts = {"a": 0, "b": 0, "c": 1}

    def load(run, **options):
        return Started(starts[run.name]) if options.get("untrained") else Spectrum()

    monkeypatch.setattr("ssl_wb.encoder.load.load_encoder", load)
    return [tmp_path / name for name in starts]


def test_runs_that_started_from_the_same_weights_share_one_untrained_row(started, task, evaluators, caplog):
    with caplog.at_level("INFO", logger="ssl_wb"):
        rows = evaluate_runs(started, [task], evaluators[1:], (0,), with_baselines=False)
    assert [(row.encoder, row.role) for row in rows] == [
        *(("a", "encoder"), ("a, untrained", "untrained"), ("b", "encoder")),
        *(("c", "encoder"), ("c, untrained", "untrained")),
    ]
    assert "b started from the same weights as a: one row stands for both" in caplog.text


@pytest.mark.parametrize(
    ("reference", "untrained"),
    [
        ("b, untrained", ["a, untrained", "b, untrained", "c, untrained"]),
        ("a, untrained", ["a, untrained", "c, untrained"]),
        ("b", ["a, untrained", "c, untrained"]),
    ],
)
def test_the_row_that_others_are_compared_with_comes_in_any_case(started, task, evaluators, reference, untrained):
    rows = evaluate_runs(started, [task], evaluators[1:], (0,), with_baselines=False, reference=reference)
    assert [row.encoder for row in rows if row.role == "untrained"] == untrained


def test_equal_weights_are_told_byte_by_byte(tmp_path, monkeypatch):
    vit = load_registry().get("backbone", "vit")

    def load(run, **options):
        torch.manual_seed({"a": 0, "b": 0, "c": 1}.get(run.name, 0))
        backbone = vit(vit.Options(size="tiny"), 80, 64)
        if run.name == "d":
            with torch.no_grad():
                backbone.proj.bias[0] += 1e-6
        front_end = LogMel(LogMel.Options.model_validate({"n_mels": 80}), 1.0 if run.name == "e" else 0.0, 1.0)
        return FrozenEncoder(front_end, backbone, 64)

    monkeypatch.setattr("ssl_wb.encoder.load.load_encoder", load)
    runs = encoder_names([tmp_path / name for name in "abcde"])
    names = [name for name, _, role, _ in encoders_to_compare(runs, log_mel=False) if role == "untrained"]
    # The data's statistics are as much of an encoder as its weights.
    assert names == ["a, untrained", "c, untrained", "d, untrained", "e, untrained"]


def test_an_encoder_without_frames_has_no_row_of_what_wants_them(task, evaluators, caplog):
    class Flat:
        sample_rate = Spectrum.sample_rate
        embed_clip = Spectrum.embed_clip

        def __init__(self):
            self.batches = []

    kind = load_registry().get("evaluator", "attentive")
    attentive = ("attentive", kind(kind.Options(epochs=20, lr=1e-2, width=8, batch_size=20)))
    rows = probe({"flat": Flat(), "hears": Spectrum()}, [task], [attentive, evaluators[1]], seeds=(0,))
    assert [(row.encoder, row.evaluator) for row in rows] == [
        *(("flat", "knn"), ("hears", "attentive"), ("hears", "knn")),
    ]
    assert "flat gives embeddings only, so it has no row of attentive" in caplog.text
    assert {row.evaluator: row.result.mean for row in rows}["attentive"] > 0.9


def test_runs_are_named_as_shortly_as_tells_them_apart(tmp_path):
    assert list(encoder_names([tmp_path / "x", tmp_path / "y"])) == ["x", "y"]
    assert list(encoder_names([tmp_path / "a" / "x", tmp_path / "b" / "x"])) == ["a/x", "b/x"]
    with pytest.raises(UsageError, match="a run is named twice"):
        encoder_names([tmp_path / "x", tmp_path / "y" / ".." / "x"])


def test_each_evaluator_gets_the_level_it_asks_for(task, evaluators):
    class Layered(Spectrum):
        def layers(self, waveform, lengths=None):
            return self.embed_frames(waveform, lengths)[:, None].expand(-1, 3, -1, -1) + 1

    seen = {}

    def asking(level):
        class Asking(type(evaluators[1][1])):
            def __call__(self, task, seeds):
                seen[level] = task
                return super().__call__(replace(task, embeddings=task.embeddings.reshape(120, -1)), seeds)

        Asking.level = level
        return Asking(evaluators[1][1].options)

    kinds = [(level, asking(level)) for level in ("layers", "clip", "frames")]
    rows = probe({"deep": Layered(), "flat": Spectrum()}, [task], kinds, seeds=(0,))
    # Plain statistics have no layers, and that is no mistake.
    assert [(row.encoder, row.evaluator) for row in rows] == [
        *(("deep", "layers"), ("deep", "clip"), ("deep", "frames"), ("flat", "clip"), ("flat", "frames")),
    ]
    assert seen["layers"].embeddings.shape == (120, 3, 4)
    assert seen["clip"].embeddings.shape == (120, 4)
    assert seen["frames"].embeddings.shape == (120, 1, 4)
    assert seen["frames"].frames.tolist() == [1] * 120
    assert len(seen["clip"].read(3)) / 16000 == pytest.approx(0.2, rel=0.4)


def test_level_tokens_of_version_0_1_is_level_frames(evaluators):
    with pytest.warns(DeprecationWarning, match="level 'tokens' is now called 'frames'"):

        class Older(type(evaluators[1][1])):
            level = "tokens"

    assert level_of(Older) == "frames"
    assert Older.level == "tokens"  # plugins of 0.1 compare with it


def test_a_row_tells_what_it_cost(task, evaluators):
    rows = probe({"hears": Spectrum()}, [task], evaluators, seeds=(0,))
    told = rows[0].as_json()["seconds"]
    assert told["audio"] == pytest.approx(120 * 0.2, rel=0.1)
    assert told["embedding"] > 0
    assert told["probe"] > 0
    assert told["speed"] == pytest.approx(told["audio"] / told["embedding"], rel=0.01)
    assert told["cached"] is False


def test_what_is_not_known_is_null_in_json(task, evaluators):
    (row,) = probe({"hears": Spectrum()}, [task], evaluators[:1], seeds=(0,))
    assert row.as_json()["std"] is None  # one seed has no spread
    json.dumps(row.as_json(), allow_nan=False)


def test_defaults_are_three_seeds():
    assert runner.probe.__defaults__[0] == (0, 1, 2)
