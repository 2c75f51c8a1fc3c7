"""Averages of runs and checkpoints: the mean of the weights, and what cannot be averaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ssl_wb import load_encoder, train
from ssl_wb.cli.main import run
from ssl_wb.encoder.load import encoder_parts
from tiny_quickstart import TINY


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two runs of one recipe that differ in the seed of their data order, and one of another width."""
    folder = tmp_path_factory.mktemp("averages")
    settings = [*TINY, "evaluate=[]", "train.steps=3", "train.checkpoint_every=1", "train.keep_checkpoints=3"]
    train("quickstart", overrides=[*settings, "optimizer.lr=0.01"], out=folder / "a", quiet=True)
    train("quickstart", overrides=[*settings, "optimizer.lr=0.02"], out=folder / "b", quiet=True)
    train("quickstart", overrides=[*settings, "backbone.dim=24"], out=folder / "wide", quiet=True)
    return folder


def weights_of(place, **options):
    return encoder_parts(place, **options).weights


def test_the_mean_of_two_runs(runs, tmp_path, capsys):
    out = tmp_path / "ab"
    assert run(["average", str(runs / "a"), str(runs / "b"), "--out", str(out), "--licence", "mit"]) == 0
    assert "average of 2" in capsys.readouterr().err
    one, two, found = weights_of(runs / "a"), weights_of(runs / "b"), weights_of(out)
    assert found.keys() == one.keys()
    assert not torch.equal(one["trunk.blocks.0.mlp.fc1.weight"], two["trunk.blocks.0.mlp.fc1.weight"])
    for key, value in found.items():
        assert value.dtype == one[key].dtype
        assert_close(value, (one[key] + two[key]) / 2, rtol=1e-6, atol=1e-8)
    assert load_encoder(out).embed_clip(torch.randn(2, 16000)).isfinite().all()
    config = json.loads((out / "config.json").read_text())
    assert any("mean of the weights of 2 encoders: a, b" in note for note in config["notes"])
    assert str(tmp_path) not in (out / "README.md").read_text()


def test_the_last_checkpoints_of_one_run(runs, tmp_path):
    assert run(["average", str(runs / "a"), "--last", "2", "--out", str(tmp_path / "soup")]) == 0
    steps = [weights_of(runs / "a", checkpoint=f"step-{step:08d}") for step in (2, 3)]
    for key, value in weights_of(tmp_path / "soup").items():
        assert_close(value, (steps[0][key] + steps[1][key]) / 2, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["a"], "one encoder has no average"),
        (["a", "a"], "named twice"),
        (["a", "wide"], "backbone.dim is 16 and 24"),
        (["a", "b", "--last", "2"], "--last 2 with 2 runs"),
        (["a", "--last", "9"], "has 3 checkpoints"),
        (["a", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_averaged(runs, tmp_path, capsys, words, text):
    places = [word if word.startswith("-") or word.isdigit() else str(runs / word) for word in words]
    assert run(["average", *places, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert text in captured.err
    assert "hint: " in captured.err
    assert not (tmp_path / "out").exists()
