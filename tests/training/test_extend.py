"""A finished run is extended: in a folder of its own, which states its schedule."""

from __future__ import annotations

import json
import shutil

import pytest

from ssl_wb.cli.main import run as ssl_wb
from ssl_wb.errors import RunFolderError, UsageError
from ssl_wb.layers.schedules import warmup_cosine
from ssl_wb.workflows.extend import extend
from ssl_wb.workflows.pretrain import train


@pytest.fixture(scope="module")
def finished(tmp_path_factory, recipe_text):
    folder = tmp_path_factory.mktemp("finished")
    recipe = folder / "tiny.toml"
    recipe.write_text(recipe_text)
    settings = ["train.steps=4", "train.log_every=1", "train.warmup=0.5", "train.checkpoint_every=2"]
    return train(recipe, out=folder / "run", overrides=settings, quiet=True, cpu=True)


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_finished_run_goes_on_in_a_new_folder_that_says_so(finished, tmp_path, capsys):
    out, before = tmp_path / "longer", sorted(path.name for path in finished.iterdir())
    words = ["train", "--extend", str(finished), "--cpu", "--quiet", "--out", str(out), "--set"]
    assert ssl_wb([*words, "train.steps=8", "--max-hours", "1e-9"]) == 75
    assert ssl_wb([*words, "train.steps=8"]) == 0  # the same command goes on, and begins no other run
    assert [row["step"] for row in rows(out)] == list(range(1, 9))
    assert rows(out)[:4] == rows(finished)
    # The rate rises from the last one of the first run to the cosine of eight steps, over half of the four added ones.
    rates, last = [row["learning_rate"] for row in rows(out)], rows(finished)[-1]["learning_rate"]
    cosine = [warmup_cosine(step, 8, 4, peak=1e-3, last=0.0) for step in range(8)]
    assert rates[4] == pytest.approx((last + cosine[4]) / 2)
    assert rates[5:] == pytest.approx(cosine[5:])
    record = json.loads((out / "extended.json").read_text())
    assert (record["source"], record["step"], record["steps"]) == (str(finished), 4, 8)
    assert "re-warm" in record["schedule"]
    assert json.loads((out / "environment.json").read_text())["extended"] == record
    assert sorted(path.name for path in finished.iterdir()) == before
    assert ssl_wb([*words, "train.steps=9"]) == 2  # another extension has its own folder
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([], "has 4 steps, and --extend is to give it 4"),
        (["train.steps=3"], "has 4 steps, and --extend is to give it 3"),
        (["train.steps=8", "optimizer.lr=1e-5"], r"keeps the recipe of the run: optimizer\.lr is 0\.001 in the run"),
    ],
)
def test_what_is_no_extension_is_refused(finished, settings, said):
    with pytest.raises(UsageError, match=said):
        extend(finished, settings)
    assert not list(finished.parent.glob("run-*"))


def test_a_run_that_has_not_ended_or_is_damaged_is_not_extended(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    weights = run / "checkpoints" / "step-00000004" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    with pytest.raises(RunFolderError, match="is not what was written"):
        extend(run, ["train.steps=8"])
    assert not (tmp_path / "run-8-steps").exists()
    (run / "checkpoints" / "last").write_text("step-00000002\n")
    with pytest.raises(UsageError, match="has not ended"):
        extend(run, ["train.steps=8"])
    with pytest.raises(RunFolderError, match="not a run folder"):
        extend(tmp_path, ["train.steps=8"])


@pytest.mark.parametrize("words", [[], ["tiny", "--extend", "run"], ["--extend", "run", "--resume"]])
def test_words_that_do_not_go_together_are_refused(words, capsys):
    assert ssl_wb(["train", *words]) == 2
    assert "hint: " in capsys.readouterr().err
