"""A note where a run's best checkpoint was chosen with clips that are tested."""

from __future__ import annotations

import pytest
import tomli_w

from ssl_wb.errors import RunFolderError
from ssl_wb.evaluation.checkpoint_leakage import note_leakage
from ssl_wb.evaluation.runner import evaluate_runs
from ssl_wb.plugin.registry import load_registry
from ssl_wb.tasks.task import load_task
from ssl_wb.tasks.validation_subset import validation_subset
from task_fakes import Deaf, Spectrum, labelled, write_manifest


@pytest.fixture
def folds(tmp_path):
    return write_manifest(tmp_path / "folds", labelled(90, classes="abc", fold=lambda n: str(n // 3 % 3)))


def run_with(folder, *probes):
    """A run folder with nothing in it but probes, each ``(task, further keys)``."""
    folder.mkdir()
    sections = [{"name": "knn", "task": str(task), "every_clips": 2000, **keys} for task, keys in probes]
    (folder / "recipe.resolved.toml").write_text(tomli_w.dumps({"evaluate": sections}))
    return folder


def notes(run, *manifests):
    """The notes that come to those of each task."""
    tasks = [load_task(manifest) for manifest in manifests]
    found = note_leakage(run, "fine", tasks)
    assert [one.notes[: len(task.notes)] for one, task in zip(found, tasks, strict=True)] == [t.notes for t in tasks]
    return [one.notes[len(task.notes) :] for one, task in zip(found, tasks, strict=True)]


def test_folds_that_chose_best_are_noted_with_their_count(tmp_path, folds):
    run = run_with(tmp_path / "run", (folds, {"every": 0.5}))
    ((note,),) = notes(run, folds)
    # Fold 0 is kept from the run; the 60 clips of the other two are not.
    assert len(validation_subset(load_task(folds), 2000).clips) == 60
    assert "'best' of fine was chosen by a probe that saw 60 of the 90 test clips" in note
    few = run_with(tmp_path / "few", (folds, {"every": 0.5, "every_clips": 30}))
    assert "saw 30 of the 90" in notes(few, folds)[0][0]


def test_other_lists_of_the_same_clips_are_found_out(tmp_path, folds):
    run = run_with(tmp_path / "run", (folds, {"every": 2}))
    header, *lines = folds.read_text().splitlines()
    again = folds.with_name("again.csv")  # fold 0, which the run did not see, and fold 1
    again.write_text("\n".join([header, *(line for number, line in enumerate(lines) if number // 3 % 3 < 2)]))
    other = write_manifest(tmp_path / "other", labelled(90, classes="abc", fold=lambda n: str(n // 3 % 3)))
    found = notes(run, again, other)
    assert "saw 30 of the 60 test clips" in found[0][0]
    assert found[1] == ()


@pytest.mark.parametrize("split", [lambda n: ["train", "val", "test"][n // 3 % 3], None], ids=["split", "drawn"])
def test_no_test_clip_of_one_split_is_seen(tmp_path, split):
    columns = {} if split is None else {"split": split}
    manifest = write_manifest(tmp_path / "fixed", labelled(90, classes="abc", **columns))
    assert notes(run_with(tmp_path / "run", (manifest, {"every": 0.5})), manifest) == [()]


def test_what_did_not_choose_is_not_noted(tmp_path, folds):
    other = write_manifest(tmp_path / "other", labelled(60, classes="ab", fold=lambda n: str(n // 2 % 3)))
    assert notes(run_with(tmp_path / "none", (folds, {})), folds) == [()]  # probed after training only
    later = run_with(tmp_path / "later", (other, {"every": 1}), (folds, {"every": 1}))
    assert [len(one) for one in notes(later, folds, other)] == [0, 1]  # the first chooses
    assert notes(run_with(tmp_path / "scenes", ("synthetic:scenes", {"every": 1})), folds) == [()]
    assert notes(run_with(tmp_path / "gone", (tmp_path / "gone.csv", {"every": 1})), folds) == [()]
    assert notes(tmp_path, folds) == [()]


def test_a_recipe_that_cannot_be_read_is_said(tmp_path, folds):
    run = run_with(tmp_path / "run")
    (run / "recipe.resolved.toml").write_text("= no TOML")
    with pytest.raises(RunFolderError, match=r"recipe\.resolved\.toml: cannot be read"):
        note_leakage(run, "x", [load_task(folds)])


@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_the_note_stands_in_the_results_of_best_alone(tmp_path, folds, checkpoint, monkeypatch):
    monkeypatch.setattr(
        "ssl_wb.encoder.load.load_encoder", lambda run, **options: Deaf() if options.get("untrained") else Spectrum()
    )
    run = run_with(tmp_path / "run", (folds, {"every": 0.5}))
    kind = load_registry().get("evaluator", "knn")
    rows = evaluate_runs([run], [load_task(folds)], [("knn", kind(kind.Options()))], (0,), checkpoint=checkpoint)
    told = {row.role: "was chosen by a probe that saw" in " ".join(row.result.notes) for row in rows}
    assert told == {"encoder": checkpoint == "best", "untrained": False, "baseline": False}
