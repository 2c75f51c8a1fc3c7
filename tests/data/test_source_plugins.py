"""Sources of other packages: found, listed and read as the bundled ones."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest

from ssl_wb.cli.main import run
from ssl_wb.data.clips import SourceSettings, find_source, load_clips
from ssl_wb.errors import DataError, RecipeError
from ssl_wb.plugin.registry import load_registry
from ssl_wb.recipe.load import load_recipe, resolved
from ssl_wb.tasks.task import load_task

SAMPLE = Path(__file__).parents[1] / "third_party" / "tapes"


@pytest.fixture(autouse=True)
def tapes(monkeypatch):
    """Install the sample beside the bundled plugins for the time of a test."""
    monkeypatch.syspath_prepend(SAMPLE)
    entry_point = EntryPoint("tapes", "ssl_wb_tapes", "ssl_wb")._for(
        SimpleNamespace(name="ssl-wb-tapes", version="0.1.0")
    )
    installed = importlib.metadata.entry_points
    offered = [*installed(group="ssl_wb"), entry_point]
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda **given: offered if given == {"group": "ssl_wb"} else installed(**given),  # libraries ask for theirs
    )
    load_registry(refresh=True)
    yield
    monkeypatch.undo()
    sys.modules.pop("ssl_wb_tapes", None)
    load_registry(refresh=True)


@pytest.fixture
def tape(tmp_path, write_clip):
    lines = []
    for number in range(12):
        write_clip(tmp_path / f"{number}.wav", 4000)
        lines.append(json.dumps({"audio": f"{number}.wav", "label": "ab"[number % 2]}))
    (tmp_path / "tape.jsonl").write_text("\n".join(lines))
    return tmp_path / "tape.jsonl"


def test_they_are_listed(capsys):
    assert run(["list-plugins", "--kind", "source", "--json"]) == 0
    listed = {(one["distribution"], one["name"], one["status"]) for one in json.loads(capsys.readouterr().out)}
    assert {("ssl-wb-tapes", "json-lines", "active"), ("ssl-wb-tapes", "beeps", "active")} < listed


def test_a_path_goes_to_the_source_that_recognises_it(tape):
    assert find_source(tape).name == "json-lines"
    assert [clip.labels for clip in load_clips(tape)] == [("a",), ("b",)] * 6
    assert find_source(tape.parent).name == "folder"


def test_its_mistakes_are_said_as_ours(tape, capsys):
    tape.write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON Lines"):
        load_clips(tape)


def test_it_is_a_task_and_can_be_packed(tape, tmp_path):
    task = load_task(tape)
    assert (task.name, task.classes, len(task.clips)) == ("tape", ("a", "b"), 12)
    assert run(["pack", str(tape), str(tmp_path / "packed")]) == 0
    assert [clip.labels for clip in load_clips(tmp_path / "packed")] == [("a",), ("b",)] * 6


def test_two_sources_share_a_scheme(tmp_path):
    beeps = find_source("synthetic:beeps")
    assert find_source("synthetic:scenes").name == "scenes"
    clips = load_clips("synthetic:beeps", SourceSettings({"beeps": beeps.Options(clips=12)}, tmp_path, 8000))
    assert {clip.path.parent for clip in clips} == {tmp_path / "beeps"}
    assert len(clips) == 12
    with pytest.raises(DataError, match=r"did you mean 'synthetic:beeps'\?") as caught:
        load_clips("synthetic:beep")
    assert caught.value.hint == "There are synthetic:beeps, synthetic:scenes."


def quickstart(*overrides):
    return load_recipe("quickstart", ["data.train=synthetic:beeps", *overrides])


def test_a_table_of_a_recipe_holds_its_options(capsys):
    loaded = quickstart("data.beeps.clips=16", "evaluate=[]")
    assert resolved(loaded)["data"]["beeps"] == {"clips": 16}
    assert loaded.recipe.data.train == "synthetic:beeps"
    with pytest.raises(RecipeError) as caught:
        quickstart("data.beeps.clip=16", "data.captions.source=caption")
    assert caught.value.problems == [
        "--set data.beeps.clip=16: data.beeps.clip: unknown key; did you mean 'clips'? (known here: clips)",
        "--set data.captions.source=caption: data.captions.source: 'synthetic:beeps' has labels only, no captions; set "
        "it to 'label'",
    ]
    with pytest.raises(RecipeError, match="expected a path or 'synthetic:beeps' or 'synthetic:scenes', found the text"):
        load_recipe("quickstart", ["data.train=synthetic:beep"])
    assert run(["schema"]) == 0
    definitions = json.loads(capsys.readouterr().out)["$defs"]
    assert list(definitions["BeepOptions"]["properties"]) == ["clips"]
    assert definitions["DataSection"]["properties"]["beeps"]["$ref"] == "#/$defs/BeepOptions"


def test_options_of_sources_that_are_not_used_are_not_written():
    """A run would not load where another package is not installed any more."""
    written = resolved(load_recipe("quickstart"))["data"]
    assert "scenes" in written
    assert "beeps" not in written


def test_a_run_generates_its_clips_and_probes_on_them(tmp_path, capsys):
    words = ["data.train=synthetic:beeps", "data.beeps.clips=20", "train.steps=2", "train.batch_size=4"]
    evaluate = 'evaluate=[{name = "knn", task = "synthetic:beeps"}]'
    settings = [word for setting in (*words, evaluate) for word in ("--set", setting)]
    assert run(["validate", "quickstart", "--json", *settings]) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 20
    assert run(["train", "quickstart", "--cpu", "--quiet", "--out", str(tmp_path / "run"), *settings]) == 0
    assert len(list((tmp_path / "run" / "beeps").glob("*.wav"))) == 20
    (row,) = [one for one in json.loads((tmp_path / "run" / "results.json").read_text()) if one["role"] == "encoder"]
    assert row["task"] == "beeps"
