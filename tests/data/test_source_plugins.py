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
from ssl_wb.errors import DataError
from ssl_wb.plugin.registry import load_registry
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
