"""`tasks`."""

from __future__ import annotations

import json

import pytest

from ssl_wb.cli.main import run
from ssl_wb.data.clips import load_clips

KEYS = {
    *("name", "title", "domain", "metric", "multi_label", "classes", "clip_seconds", "division", "known_counts"),
    *("homepage", "licence", "layout", "manifest_columns", "notes"),
}


@pytest.fixture
def download(tmp_path):
    """Two clips of ESC-50, one of them absent."""
    (tmp_path / "esc/meta").mkdir(parents=True)
    (tmp_path / "esc/audio").mkdir()
    lines = [
        "filename,fold,target,category,esc10,src_file,take",
        "a.wav,1,0,dog,True,1,A",
        "b.wav,2,1,rooster,True,2,A",
    ]
    (tmp_path / "esc/meta/esc50.csv").write_text("\n".join(lines))
    (tmp_path / "esc/audio/a.wav").write_bytes(b"RIFF")
    return tmp_path / "esc"


@pytest.mark.parametrize("words", [["tasks", "--json"], ["tasks", "list", "--json"]])
def test_list_as_json(capsys, words):
    assert run(words) == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert all(set(one) == KEYS for one in listed.values())
    assert listed["esc50"]["clip_seconds"] == 5.0
    assert listed["fsd50k"]["multi_label"] is True
    assert listed["envsdd"]["metric"] == "EER"


@pytest.mark.parametrize("words", [["tasks"], ["tasks", "list"]])
def test_list_as_text(capsys, words):
    assert run(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "DOMAIN", "METRIC", "LABELS", "CLASSES", "SECONDS", "DIVISION", "TITLE"]
    row = next(line.split() for line in lines if line.startswith("urbansound8k "))
    assert row[:7] == ["urbansound8k", "environment", "accuracy", "one", "10", "4", "10"]


def test_json_before_the_word_is_told_where_it_belongs(capsys):
    assert run(["tasks", "--json", "list"]) == 2
    assert "hint: ssl-wb tasks list --json" in capsys.readouterr().err


def test_show(capsys):
    assert run(["tasks", "show", "crema-d"]) == 0
    text = capsys.readouterr().out
    for part in ("2.5 s", "7,442", "AudioWAV/*.wav", "path, label, fold", "no official split"):
        assert part in text
    assert "2.5 s in the published protocol; the workbench embeds clips whole, at any length" in text


def test_show_says_what_a_manifest_takes_of_long_tracks(capsys):
    assert run(["tasks", "show", "mtg-jamendo-genre"]) == 0
    assert "30 s, which the manifest takes of each file (start, duration)" in capsys.readouterr().out


def test_show_as_json(capsys):
    assert run(["tasks", "show", "gtzan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["known_counts"] == {"clips": 930, "train": 443, "val": 197, "test": 290}


@pytest.mark.parametrize("words", [["show", "esc-50"], ["make", "esc-50", "--root", ".", "--out", "x.csv"]])
def test_an_unknown_task(capsys, words):
    assert run(["tasks", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "error: no task is called 'esc-50'; did you mean 'esc50'?" in captured.err


def test_make_refuses_half_a_download(capsys, download, tmp_path):
    out = tmp_path / "esc50.csv"
    assert run(["tasks", "make", "esc50", "--root", str(download), "--out", str(out)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "1,999 of 2,000 clips are missing" in captured.err
    assert "audio/b.wav" in captured.err
    assert "Traceback" not in captured.err
    assert not out.exists()


def test_make_with_allow_missing(capsys, download, tmp_path):
    out = tmp_path / "esc50.csv"
    words = ["tasks", "make", "esc50", "--root", str(download), "--out", str(out), "--allow-missing"]
    assert run(words) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out}\n"
    assert "warning: 1,999 of 2,000 clips are missing" in captured.err
    assert "1 clips of 1 classes: fold 1 1" in captured.err
    assert [(clip.path.name, clip.labels, clip.fold) for clip in load_clips(out)] == [("a.wav", ("dog",), "1")]
    assert run(words) == 2
    assert "hint: --overwrite replaces it" in capsys.readouterr().err
    assert run([*words, "--overwrite"]) == 0


def test_make_from_a_folder_of_something_else(capsys, tmp_path):
    assert run(["tasks", "make", "gtzan", "--root", str(tmp_path), "--out", str(tmp_path / "x.csv")]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert "train_filtered.txt" in error
    assert hint.startswith("hint: The fault-filtered split is not part of GTZAN")
