"""Which source a place belongs to, and what a recipe and a run add to it."""

from __future__ import annotations

import itertools

import pytest

from ssl_wb.api import Clip, ClipSet, DataError, Source, UsageError
from ssl_wb.data.clips import SourceSettings, find_source, load_clips
from ssl_wb.plugin.base import PluginOptions
from ssl_wb.plugin.places import known_places, source_of_path, sources_of_scheme
from ssl_wb.tasks.task import load_task
from ssl_wb_plugins.sources.scenes import ScenesOptions


def test_each_place_has_its_source(tmp_path, write_clip):
    write_clip(tmp_path / "folder" / "a.wav")
    (tmp_path / "m.csv").write_text("path\nfolder/a.wav\n")
    (tmp_path / "set").mkdir()
    for name in ("state.json", "dataset_info.json"):
        (tmp_path / "set" / name).write_text("{}")
    places = {"folder": "folder", "folder/a.wav": "folder", "m.csv": "manifest", "set": "arrow"}
    assert {place: find_source(tmp_path / place).name for place in places} == places
    assert find_source("synthetic:scenes").name == "scenes"


def test_a_place_that_is_none_gets_a_guess():
    with pytest.raises(DataError, match="did you mean 'synthetic:scenes'") as caught:
        load_clips("synthetic:scene")
    assert caught.value.hint == "There are synthetic:scenes."


def fake(name, **values):
    return type(name, (Source,), {"name": name, "recognises": classmethod(lambda cls, path: True), **values})


def test_the_most_specific_source_is_asked_first_and_equals_by_name(tmp_path):
    general, first, second = fake("a", specificity=0), fake("b"), fake("c")
    with_scheme = fake("d", scheme="tape", specificity=9)
    for order in itertools.permutations([general, first, second, with_scheme]):
        assert source_of_path(tmp_path, order) is first
    assert source_of_path(tmp_path, [with_scheme]) is None


def test_several_sources_may_share_a_scheme():
    one, other = fake("one", scheme="tape", rests=("one",)), fake("other", scheme="tape", rests=("other",))
    assert sources_of_scheme("tape:x", [one, other]) == [one, other]
    assert sources_of_scheme("/a/tape:x", [one, other]) == []
    assert known_places([other, one]) == ["tape:one", "tape:other"]


def test_generated_clips_lie_in_the_run_and_their_options_come_from_the_recipe(tmp_path):
    settings = SourceSettings({"scenes": ScenesOptions(clips=40, seconds=0.2, seed=3)}, tmp_path, 8000)
    clips = load_clips("synthetic:scenes", settings)
    assert len(clips) == settings.source("synthetic:scenes").planned_clips("synthetic:scenes") == 40
    assert clips.source == tmp_path / "scenes" / "manifest.csv"
    # The same as its manifest, read as one.
    listed = load_clips(clips.source)
    assert (listed.clips, listed.digest) == (clips.clips, clips.digest)
    task = load_task("synthetic:scenes", settings=settings)
    assert (task.name, len(task.clips), len(task.splits)) == ("sound scenes", 40, 1)


def test_generated_clips_need_a_run():
    with pytest.raises(UsageError, match="synthetic:scenes: the scenes are those of a run, and none is given"):
        load_clips("synthetic:scenes")


def test_a_source_has_its_defaults():
    class Tape(Source):
        """Lists nothing."""

        name = "tape"

        def read(self, place, *, folder, sample_rate):
            return ClipSet((Clip(place),), place, "0")

    tape = Tape(PluginOptions())
    assert tape.planned_clips("x") is None
    assert tape.task_name("a/b.tape") == "b"
    assert not Tape.recognises(None)
