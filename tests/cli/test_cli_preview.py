"""preview, as typed on a terminal."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from PIL import Image

from ssl_wb.cli.main import run

SMALL = (
    *("data.clip_seconds=1.0", "front_end.n_mels=32", "backbone.dim=16", "backbone.depth=1", "backbone.heads=1"),
    *("predictor.dim=16", "predictor.depth=1", "predictor.heads=1"),
)


@pytest.fixture
def sounds(tmp_path):
    paths = []
    for number in range(2):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, np.random.default_rng(number).normal(size=20000) / 9, 16000)
        paths.append(str(path))
    return paths


def draw(out, *words, recipe="quickstart"):
    settings = [word for value in SMALL for word in ("--set", value)]
    return run(["preview", recipe, *settings, "--out", str(out), *words])


def test_one_picture_of_several_files_maskers_and_times(sounds, tmp_path, capsys):
    out = tmp_path / "mask.png"
    maskers = ["--masker", "random", "--masker", "dwm:metric=variance", "--masker", "sgim"]
    assert draw(out, "--audio", *sounds, *maskers, "--progress", "0,1", "--seed", "5") == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "4 rows; random, dwm:metric=variance, sgim" in said.err
    with Image.open(out) as image:
        assert image.format == "PNG"
        assert image.width == 1620
        assert image.height > 1000


def test_files_may_be_given_one_by_one(sounds, tmp_path, capsys):
    together, apart = tmp_path / "together.svg", tmp_path / "apart.svg"
    assert draw(together, "--audio", *sounds) == 0
    assert draw(apart, "--audio", sounds[0], "--audio", sounds[1]) == 0
    assert together.read_bytes() == apart.read_bytes()
    assert capsys.readouterr().err.count("2 rows; random") == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--masker", "randon"], 3, "did you mean 'random'"),
        (["--masker", "random:ratio=1.5"], 3, "below 1"),
        (["--set", "masker.rato=0.5"], 3, "did you mean 'ratio'"),
        (["--progress", "0,2"], 2, "outside 0 to 1"),
        (["--progress", "half"], 2, "not a list of numbers"),
        (["--audio", "absent.wav"], 2, "absent.wav: no such file"),
        (["--audio", "SILENT"], 2, "are silent"),
        (["--seed", "-1"], 2, "seed"),
        (["--out", "mask.jpeg"], 2, ".png, .pdf, .svg"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(sounds, tmp_path, capsys, words, code, message):
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(20000), 16000)
    out = tmp_path / "mask.png"
    assert draw(out, "--audio", sounds[0], *(word.replace("SILENT", str(silent)) for word in words)) == code
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not out.exists()


def test_a_picture_is_replaced_only_when_told(sounds, tmp_path, capsys):
    out = tmp_path / "mask.svg"
    out.write_text("mine")
    assert draw(out, "--audio", sounds[0]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert draw(out, "--audio", sounds[0], "--overwrite") == 0
    assert out.read_text().startswith("<?xml")
