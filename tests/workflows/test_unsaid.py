"""What a command does not use, or cannot use, is told: another recipe, odd files, a batch of one clip."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from ssl_wb.audio.decode import read
from ssl_wb.cli.main import run as ssl_wb
from ssl_wb.cli.output import echo_json
from ssl_wb.runs.folder import RunFolder
from tiny_quickstart import TINY_MODEL

TINY = ("data.clip_seconds=1.0", *TINY_MODEL, "evaluate=[]")


def words(*settings):
    return [word for setting in settings for word in ("--set", setting)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips") / "data"
    folder.mkdir()
    for index in range(6):
        noise = 0.1 * np.random.default_rng(index).standard_normal(16000)
        soundfile.write(folder / f"{index}.wav", noise, 16000)
    return folder


@pytest.fixture(scope="module")
def trained(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a run"
    command = ["train", "quickstart", "--cpu", "--out", str(folder), *words(*TINY, f"data.train={clips}")]
    assert ssl_wb(command) == 0
    return folder


def test_train_begins_with_what_is_odd_and_ends_with_the_next_commands(clips, tmp_path, capsys):
    folder, manifest = tmp_path / "its run", tmp_path / "twice.csv"
    manifest.write_text("".join(["path\n", *(f"{clips / name}\n" for name in ("0.wav", "1.wav", "2.wav", "1.wav"))]))
    assert ssl_wb(["train", "quickstart", "--cpu", "--out", str(folder), *words(*TINY, f"data.train={manifest}")]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert any(f"{manifest}: 1 of 4 clips are there already" in line for line in lines)
    assert f"next: ssl-wb evaluate '{folder}' --task MANIFEST.csv" in lines
    assert f"  or: ssl-wb embed '{folder}' FOLDER --out embeddings.npz" in lines


def resumed(recipe, trained, capsys):
    assert ssl_wb(["train", str(recipe), "--cpu", "--resume", "--out", str(trained)]) == 0
    return capsys.readouterr().err


def test_its_own_recipe_beside_resume_needs_no_word(trained, capsys):
    for recipe in ("quickstart", trained / "recipe.toml", trained / "recipe.resolved.toml"):
        assert "warning" not in resumed(recipe, trained, capsys)


def test_another_recipe_beside_resume_is_told_with_what_has_no_effect(trained, tmp_path, capsys):
    edited = tmp_path / "edited.toml"
    edited.write_text('extends = "quickstart"\n[optimizer]\nlr = 0.007\n[masker]\nratio = 0.5\n')
    err = resumed(edited, trained, capsys)
    assert f"{trained}: the run goes on with its own recipe; changes in {edited} have no effect: " in err
    assert "optimizer.lr is 0.002 in the run and 0.007 there" in err
    assert "masker.ratio is " in err
    assert "nonsense is not read (no file and no shipped recipe" in resumed("nonsense", trained, capsys)


def test_a_lost_record_of_the_environment_does_not_stop_a_resume(trained, capsys):
    record = trained / "environment.json"
    before = record.read_text()
    record.write_text("")
    assert "environment.json: cannot be read" in resumed("quickstart", trained, capsys)
    assert len(json.loads(record.read_text())["resumed"]) == 1
    record.write_text(before)


def test_validate_opens_a_sample_of_the_files(clips, tmp_path, capsys):
    command = ["validate", "quickstart", *words(*TINY)]
    assert ssl_wb([*command, "--set", f"data.train={clips}", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["files_opened"], facts["warnings"]) == (6, [])
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    assert ssl_wb([*command, "--set", f"data.train={tmp_path}"]) == 2
    assert "none of 1 files opened can be read" in capsys.readouterr().err
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    assert ssl_wb([*command, "--set", f"data.train={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert "2 clips" in out
    assert "2 of them opened" in out
    assert "1 of 2 files opened cannot be read" in out
    assert "hold nothing but zeros" in out


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("train.batch_size=1",), "train.batch_size = 1: objective 'infonce' compares the clips of a pass"),
        (("train.batch_size=4", "train.accumulate=4"), "train.accumulate = 4: objective 'infonce' compares"),
        (("train.batch_size=4", "train.accumulate=2"), ""),
        (("train.batch_size=4", "train.micro_batch=1"), ""),
        (("train.batch_size=1", "objective.infonce.weight=0"), ""),
    ],
)
def test_a_contrast_of_one_clip_is_refused(clips, capsys, settings, said):
    code = ssl_wb(["validate", "audiomosaic-small", *words(f"data.train={clips}", *settings)])
    assert code == (3 if said else 0)
    assert said in capsys.readouterr().err


def test_a_contrast_of_one_clip_is_refused_where_memory_asks_for_as_many_passes(clips, tmp_path, capsys, monkeypatch):
    def in_four_passes(loaded, plan, accelerator):
        train = loaded.recipe.train.model_copy(update={"accumulate": 4})
        return replace(loaded, recipe=loaded.recipe.model_copy(update={"train": train}))

    monkeypatch.setattr("ssl_wb.workflows.pretrain.find_passes", in_four_passes)
    lengths = ("train.steps=1", "train.batch_size=4", "train.accumulate='auto'")
    settings = words(f"data.train={clips}", *lengths, "evaluate=[]")
    assert ssl_wb(["train", "audiomosaic-small", "--cpu", "--out", str(tmp_path / "run"), *settings]) == 3
    assert "train.accumulate = 4: objective 'infonce' compares the clips of a pass" in capsys.readouterr().err


def test_a_clip_that_does_not_fit_into_memory_costs_itself_only(clips, trained, tmp_path, capsys, monkeypatch):
    def read_all_but_one(path, *given, **named):
        if path.name == "3.wav":
            raise MemoryError
        return read(path, *given, **named)

    monkeypatch.setattr("ssl_wb.encoder.files.read", read_all_but_one)
    assert ssl_wb(["embed", str(trained), str(clips), "--out", str(tmp_path / "o.npz")]) == 0
    assert f"skipped: {clips / '3.wav'}: is too long for the memory that is free" in capsys.readouterr().err
    with np.load(tmp_path / "o.npz") as kept:
        assert len(kept["path"]) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf8(clips, trained, tmp_path, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    name = os.fsdecode(b"caf\xe9.wav")
    (folder / name).write_bytes((clips / "0.wav").read_bytes())
    for ending in ("npz", "parquet"):
        assert ssl_wb(["embed", str(trained), str(folder), "--out", str(tmp_path / f"o.{ending}")]) == 0
    with np.load(tmp_path / "o.npz") as kept:
        assert kept["path"].tolist() == [f"{folder}/caf\\xe9.wav"]
    RunFolder(tmp_path).write_json(tmp_path / "u.json", [name])
    assert json.loads((tmp_path / "u.json").read_text(encoding="utf-8")) == [name]
    capsys.readouterr()
    echo_json([name])
    assert json.loads(capsys.readouterr().out) == [name]
    folder.rename(tmp_path / name)
    assert ssl_wb(["validate", "quickstart", "--set", f"data.train={tmp_path / name}"]) == 3
    assert "the name is not UTF-8, which a recipe cannot hold" in capsys.readouterr().err
