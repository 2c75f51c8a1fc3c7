"""`compare` and `diff` on constructed runs: what differs, tables, marks, formats, and bad input."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from ssl_wb.cli.main import run
from ssl_wb.errors import DataError, RunFolderError, UsageError
from ssl_wb.evaluation.results import Row
from ssl_wb.evaluation.score_files import read_scores, write_scores
from ssl_wb.plugin.evaluator import Result, Split, SplitScores
from ssl_wb.recipe.load import load_recipe, resolved, to_toml
from ssl_wb.workflows.compare_runs import compare_runs
from ssl_wb.workflows.diff import diff

CLIPS, CLASSES = 400, 5


def result_of(right, task="words"):
    """Return a result on fixed labels in which given clips are right, ``[seeds, clips]``."""
    labels = np.arange(CLIPS) % CLASSES
    scores = np.zeros((*right.shape, CLASSES))  # [seeds, clips, classes]
    chosen = np.where(right, labels, (labels + 1) % CLASSES)
    np.put_along_axis(scores, chosen[..., None], 1.0, axis=-1)
    nothing = np.empty(0, dtype=np.int64)
    split = Split("test", nothing, nothing, np.arange(CLIPS))
    per_seed = [float(one.mean()) for one in right]
    return Result(
        *(task, "linear", "accuracy", float(np.mean(per_seed)), (0.0, 1.0), {}, per_seed),
        scores=(SplitScores(split, scores),),
        labels=labels,
    )


def make_run(folder, masker, seed, level, tasks=("words", "sounds"), scores=True):
    """Write what a probed run leaves, with an accuracy of about ``level``."""
    folder.mkdir(parents=True)
    settings = [f"masker={{name='{masker}', ratio=0.7}}", f"seed={seed}", "evaluate=[]"]
    loaded = load_recipe("quickstart", settings)
    (folder / "recipe.resolved.toml").write_text(to_toml(resolved(loaded)))
    rows = []
    for number, task in enumerate(tasks):
        difficulty = np.random.default_rng(number).random(CLIPS)  # the same for all runs
        own = np.random.default_rng([seed, number, len(masker)]).normal(size=(2, CLIPS)) * 0.1
        rows.append(Row(folder.name, task, "linear", result_of(difficulty + own < level, task), chance=0.2))
    (folder / "results.json").write_text(json.dumps([row.as_json() for row in rows]))
    if scores:
        write_scores(folder / "scores.npz", rows)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three maskers with three seeds each: the second 8 points better, the third as good as the first."""
    place = tmp_path_factory.mktemp("runs")
    levels = {"random": 0.6, "dwm": 0.7, "ibm": 0.6}
    return [
        make_run(place / f"{name}_seed={seed}", name, seed, level)
        for name, level in levels.items()
        for seed in range(3)
    ]


def test_runs_of_one_recipe_are_one_cell_and_only_what_differs_is_shown(runs):
    found = compare_runs(runs)
    assert found.found.cells == ["random", "dwm", "ibm"]
    assert [len(cell.runs) for cell in found.cells] == [3, 3, 3]
    assert found.keys["masker.name"] == ["random", "dwm", "ibm"]
    assert all(key.startswith("masker.") for key in found.keys)


def test_a_real_difference_is_marked_and_none_is_not(runs):
    found = compare_runs(runs).found
    assert found.contrasts["dwm", "words", "linear"].different
    assert found.contrasts["dwm", "average", "linear"].different
    assert found.contrasts["dwm", "words", "linear"].mean == pytest.approx(0.1, abs=0.03)
    assert not found.contrasts["ibm", "words", "linear"].different
    ps = [(one.p_holm, one.p) for one in found.contrasts.values() if one.task == "words"]
    assert all(corrected > alone for corrected, alone in ps if alone < 0.25)  # one of four comparisons
    assert found.ranks["dwm", "linear"] == 1.0


def test_every_score_has_its_three_variances(runs):
    score = compare_runs(runs).found.scores["random", "words", "linear"]
    assert set(score.by_seed) == {0, 1, 2}
    low, high = score.interval
    assert low < score.mean < high
    assert score.clips_error == pytest.approx(np.sqrt(0.24 / CLIPS), rel=0.3)
    assert 0 < score.seeds_deviation < 0.05
    assert 0 < score.probe_deviation < 0.05


def test_the_baseline_may_be_a_cell_or_a_run(runs):
    assert set(compare_runs(runs, baseline="dwm").found.baselines.values()) == {"dwm"}
    assert set(compare_runs(runs, baseline=str(runs[3])).found.baselines.values()) == {"dwm"}
    with pytest.raises(UsageError, match=r"no cell is called so; did you mean 'dwm'\?"):
        compare_runs(runs, baseline="dwmm")


def test_a_sweep_compares_with_its_baseline_in_its_own_order(runs, tmp_path):
    place = runs[0].parent
    names = [one.name for one in (*runs[3:6], *runs[:3])]
    record = {
        "baseline": {"masker": "random"},
        "runs": [{"name": name, "levels": {"masker": name.split("_")[0]}, "seed": 0} for name in names],
    }
    (place / "sweep.json").write_text(json.dumps(record))
    (place / "baselines.json").write_text(
        json.dumps([{"role": "baseline", "encoder": "log-mel", "task": "words", "evaluator": "linear", "mean": 0.31}])
    )
    try:
        found = compare_runs([place])
    finally:
        (place / "sweep.json").unlink()
        (place / "baselines.json").unlink()
    assert found.found.cells[:2] == ["dwm", "random"]
    assert found.found.baselines["dwm"] == "random"
    assert "random" not in found.found.baselines
    assert any(row[:2] == ["log-mel", "31.0"] for row in found.layouts()[1].rows)


def test_one_seed_is_said_to_speak_of_these_runs_only(runs):
    found = compare_runs([runs[0], runs[3]]).found
    one = found.contrasts["dwm", "words", "linear"]
    assert (one.seeds, one.over_seeds) == (1, False)
    assert any("speak of these runs only" in note for note in found.notes)


def test_runs_without_scores_of_clips_have_means_and_no_test(runs, tmp_path):
    old = make_run(tmp_path / "old", "sgim", 0, 0.6, scores=False)
    found = compare_runs([*runs[:3], old]).found
    assert not found.contrasts
    assert np.isnan(found.scores["old", "words", "linear"].interval[0])
    assert any("scores of single clips are missing" in note for note in found.notes)


def test_runs_on_other_clips_are_not_tested_against_each_other(runs, tmp_path):
    other = make_run(tmp_path / "other", "sgim", 0, 0.6)
    archive = read_scores(other / "scores.npz")
    assert archive["words", "linear"].same_clips(read_scores(runs[0] / "scores.npz")["words", "linear"])
    with np.load(other / "scores.npz") as loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    arrays["0/0/labels"] = arrays["0/0/labels"][::-1]
    np.savez_compressed(other / "scores.npz", **arrays)
    found = compare_runs([*runs[:3], other]).found
    assert ("other", "words", "linear") not in found.contrasts
    assert ("other", "sounds", "linear") in found.contrasts
    assert any("not tested on the same clips" in note for note in found.notes)


def test_formats(runs, capsys):
    words = ["compare", *map(str, runs)]
    assert run(words) == 0
    table = capsys.readouterr().out
    assert "dwm minus random" in table
    assert " *" in table
    assert "pre-training seeds" in table
    assert run([*words, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert {one["cell"] for one in values["differences"]} == {"dwm", "ibm"}
    assert values["recipe_keys"]["masker.name"] == ['"random"', '"dwm"', '"ibm"']
    assert run([*words, "--csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(lines) == 6
    assert next(one for one in lines if one["cell"] == "dwm")["different"] == "True"
    assert run([*words, "--markdown"]) == 0
    assert "## Differences" in capsys.readouterr().out
    assert run([*words, "--latex"]) == 0
    latex = capsys.readouterr().out
    assert r"\begin{tabular}{lrrrr}" in latex
    assert "$^{*}$" in latex


def test_bad_input_has_a_message(runs, tmp_path, capsys):
    assert run(["compare", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert run(["compare", str(tmp_path)]) == 2
    assert "no run folder, and no folder of a sweep" in capsys.readouterr().err
    assert run(["compare", str(runs[0]), "--margin", "0"]) == 2
    assert "expected points above 0" in capsys.readouterr().err
    assert run(["compare", str(runs[0]), "--evaluator", "knn"]) == 2
    assert "belong to --task" in capsys.readouterr().err
    bare = make_run(tmp_path / "bare", "random", 0, 0.5, tasks=())
    with pytest.raises(UsageError, match="no results"):
        compare_runs([bare])
    with pytest.raises(UsageError, match=r"same recipe and the same seed 0"):
        compare_runs([runs[0], make_run(tmp_path / "again", "random", 0, 0.6)])
    (bare / "scores.npz").write_bytes(b"PK damaged")
    with pytest.raises(DataError, match=r"scores.npz: cannot be read"):
        compare_runs([bare])
    (bare / "scores.npz").unlink()
    (bare / "results.json").write_text("{")
    with pytest.raises(RunFolderError, match="cannot be read"):
        compare_runs([bare])


def environment(folder, version, torch="2.11"):
    record = {
        "ssl_wb": "0.2.0",
        "command": [folder.name],
        "packages": {"torch": torch},
        "device": {"type": "cpu"},
        "plugins": [{"kind": "masker", "name": "dwm", "distribution": "mine", "version": version, "status": "ok"}],
    }
    (folder / "environment.json").write_text(json.dumps(record))


def test_diff_of_recipes_and_of_runs(runs, tmp_path, capsys):
    assert run(["diff", "m2d-small", "m2d-small-dwm"]) == 0
    out, err = capsys.readouterr()
    assert 'masker.name           "random"      "dwm"' in out
    assert "where both are run folders" in err
    a, b = make_run(tmp_path / "a", "random", 0, 0.6), make_run(tmp_path / "b", "random", 0, 0.6)
    environment(a, "1.0"), environment(b, "1.1", torch="2.12")
    for folder, digest in ((a, "x"), (b, "y")):
        same = {"source": "clips", "clips": 9, "digest": digest, "names": "n", "sample": "s"}
        (folder / "data.json").write_text(json.dumps(same))
    found = diff(a, b)
    assert found.parts["recipe"] == []
    assert [(one.key, one.left, one.right) for one in found.parts["plugin"]] == [("masker dwm", "mine 1.0", "mine 1.1")]
    assert [one.key for one in found.parts["package"]] == ["torch"]
    assert found.parts["data"] == []  # copied files have other times and the same content
    assert found.parts["environment"] == []
    (b / "data.json").write_text(
        json.dumps({"source": "clips", "clips": 8, "digest": "y", "names": "m", "sample": "s"})
    )
    assert {one.key for one in diff(a, b).parts["data"]} == {"clips", "digest", "names"}
    assert run(["diff", str(a), str(a), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"] == []
    assert run(["diff", str(a), str(a)]) == 0
    assert capsys.readouterr().out == "no difference\n"
    (b / "environment.json").unlink()
    with pytest.raises(RunFolderError, match=r"environment.json: cannot be read"):
        diff(a, b)
    assert run(["diff", str(tmp_path), "m2d-small"]) == 2
    assert "not a run folder" in capsys.readouterr().err
