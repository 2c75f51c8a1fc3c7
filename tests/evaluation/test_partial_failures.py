"""One failing encoder, clip or evaluator does not throw away the rows that are done."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from ssl_wb.api import Evaluator, PluginOptions
from ssl_wb.cli.main import run as ssl_wb
from ssl_wb.errors import DataError, RecipeError
from ssl_wb.evaluation.runner import probe
from ssl_wb.plugin.registry import load_registry
from ssl_wb.recipe.load import load_recipe
from ssl_wb.runs.folder import RunFolder
from ssl_wb.tasks.task import load_task
from ssl_wb.workflows import final_probes
from ssl_wb.workflows.preflight import preflight
from task_fakes import Deaf, Spectrum, labelled, write_manifest

CODE = """
import torch
class Ok:
    sample_rate = 16000
    def embed_frames(self, w, l=None): return w.unfold(1, 400, 160).abs().log1p()[..., :8]
    def embed_clip(self, w, l=None): return self.embed_frames(w).mean(1)
def good():
    print("LOADED")
    return Ok()
def bad(): 1 / 0
"""
QUICK = ["--evaluator", "knn", "--seeds", "1", "--no-baselines", "--no-cache", "--json"]


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ssl_wb.encoder.load.load_encoder",
        lambda run, **options: Deaf() if options.get("untrained") else Spectrum(),
    )
    (tmp_path / "code.py").write_text(CODE)
    return write_manifest(tmp_path / "clips", labelled(60, classes="abc", fold=lambda n: str(n // 3 % 3)))


def encoders_of(out: str) -> list[tuple[str, str, str]]:
    return [(row["encoder"].rpartition(":")[2], row["task"], row["evaluator"]) for row in json.loads(out)]


@pytest.mark.parametrize("order", [("good", "bad"), ("bad", "good")])
def test_an_encoder_that_fails_leaves_the_rows_of_others(manifest, tmp_path, capsys, order):
    sources = [f"python:{tmp_path / 'code.py'}:{name}" for name in order]
    assert ssl_wb(["evaluate", *sources, "--task", str(manifest), *QUICK]) == 2
    out, err = capsys.readouterr()
    assert encoders_of(out) == [("good", manifest.stem, "knn")]
    assert "ZeroDivisionError" in err
    assert "is left out" in err


def test_a_broken_clip_costs_its_task_only(manifest, tmp_path, capsys):
    broken = write_manifest(tmp_path / "others", labelled(60, classes="abc", fold=lambda n: str(n // 3 % 3)))
    broken = broken.rename(broken.with_name("broken.csv"))
    next(iter(sorted((tmp_path / "others").rglob("*.wav")))).write_bytes(b"RIFF nothing")
    source = f"python:{tmp_path / 'code.py'}:good"
    assert ssl_wb(["evaluate", source, "--task", str(broken), "--task", str(manifest), *QUICK]) == 2
    out, err = capsys.readouterr()
    assert encoders_of(out) == [("good", manifest.stem, "knn")]
    assert "broken is left out" in err


def test_an_evaluator_that_fails_leaves_the_rows_of_others(manifest):
    class Fails(Evaluator):
        """Fails once it has the embeddings."""

        name = "fails"

        def __call__(self, task, seeds):
            raise DataError("no reason")

    knn = load_registry().get("evaluator", "knn")
    evaluators, failed = [("fails", Fails(PluginOptions())), ("knn", knn(knn.Options()))], []
    rows = probe({"x": Spectrum()}, [load_task(manifest)], evaluators, failed=lambda *one: failed.append(one))
    assert [row.evaluator for row in rows] == ["knn"]
    ((what, error),) = failed
    assert what == "fails: x on task"
    assert error.message == "no reason"


def test_an_only_encoder_that_fails_is_an_error_as_before(manifest, tmp_path, capsys):
    source = f"python:{tmp_path / 'code.py'}:bad"
    assert ssl_wb(["evaluate", source, "--task", str(manifest), *QUICK]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "error:" in err


def test_labels_that_an_evaluator_cannot_use_are_told_before_an_encoder_is_loaded(tmp_path, capsys):
    (tmp_path / "code.py").write_text(CODE)
    task = write_manifest(tmp_path / "clips", labelled(60, label=lambda n: ["a", "b", "a;b"][n % 3]))
    words = ["evaluate", f"python:{tmp_path / 'code.py'}:good", "--task", str(task), "--evaluator", "clusters"]
    assert ssl_wb([*words, *QUICK]) == 2
    out, err = capsys.readouterr()
    rows = {row["evaluator"]: row for row in json.loads(out)}
    told = err.index("clusters: task is left out: clusters: task: clusters are compared with one class per clip")
    assert told < err.index("LOADED")
    assert rows["knn"]["mean"] is not None
    assert rows["clusters"]["mean"] is None  # an empty cell, and the reason
    assert "no score of clusters: clusters are compared with one class per clip" in " ".join(rows["clusters"]["notes"])
    # Where nothing is left, no encoder is loaded.
    assert ssl_wb([*words, *QUICK[2:]]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "error: clusters: task: clusters are compared" in err
    assert "LOADED" not in err


def test_a_recipes_probe_that_cannot_use_the_labels_is_a_mistake_of_the_recipe(tmp_path):
    task = write_manifest(tmp_path, labelled(60, label=lambda n: str(n % 7)))
    loaded = load_recipe("quickstart", [f"evaluate=[{{name='retrieval', task='{task}', metric='R2'}}]"])
    with pytest.raises(RecipeError, match=r"evaluate\.retrieval\.task: task: retrieval needs classes"):
        preflight(loaded)


def test_a_final_probe_that_fails_leaves_the_results_of_the_others(tmp_path, monkeypatch):
    row = SimpleNamespace(as_json=lambda: {"task": "good"}, role="untrained")
    selections = [
        SimpleNamespace(name="knn", plugin=lambda options: None, options=None, settings=settings)
        for settings in (SimpleNamespace(task=name, metric=None, pooling="mean") for name in ("bad", "good", "worse"))
    ]

    def evaluate_runs(runs, tasks, *given, **named):
        if tasks[0].name != "good":
            raise DataError(f"{tasks[0].name} fails")
        return [row]

    monkeypatch.setattr(final_probes, "evaluate_runs", evaluate_runs)
    checked = SimpleNamespace(task=lambda section, folder: SimpleNamespace(name=section.task))
    folder = RunFolder(tmp_path)
    with pytest.raises(DataError, match="bad fails"):
        final_probes.run_final_probes(SimpleNamespace(evaluators=selections), checked, folder, "cpu", quiet=True)
    assert json.loads(folder.results.read_text()) == [{"task": "good"}]
