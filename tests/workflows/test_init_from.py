"""``[init] from``: pre-training goes on from an imported or own encoder with other objectives, masker and length."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import ssl_wb
from imported import OLDER, only
from ssl_wb import load_encoder
from ssl_wb.errors import RecipeError
from ssl_wb.workflows.encoder_folders import import_encoder

M2D = next(OLDER.glob("m2d_vit_base-*"))
#: MATPAC++'s objectives and another masker on an encoder of M2D's layout.
RECIPE = """
[data]
train = "synthetic:scenes"
clip_seconds = 0.8
workers = 0
[data.scenes]
clips = 48
seconds = 1.2
[front_end]
name = "log-mel"
center = true
[masker]
name = "ibm"
ratio = 0.6
block = 2
[backbone]
name = "vit"
dim = 48
depth = 3
heads = 4
[predictor]
dim = 32
depth = 1
heads = 2
[teacher]
init = "independent"
[[objective]]
name = "mcl"
hypotheses = 2
weight = 0.5
[[objective]]
name = "dino"
prototypes = 16
hidden = 32
bottleneck = 16
weight = 0.5
[optimizer]
lr = 1e-3
[train]
steps = 40
batch_size = 12
warmup = 0.1
log_every = 1
[init]
"""


@pytest.fixture(scope="module")
def m2d(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoders") / "m2d"
    import_encoder(str(M2D), folder)
    return folder


def write(folder: Path, place: object, change: str = "") -> Path:
    path = folder / "recipe.toml"
    old, _, new = change.partition(" -> ")
    text = RECIPE + f"from = '{place}'\n"
    assert not change or old in text
    path.write_text(text.replace(old, new) if change else text)
    return path


def test_pre_training_goes_on_with_other_objectives_masker_and_length(m2d, tmp_path):
    run = ssl_wb.train(write(tmp_path, m2d), out=tmp_path / "run", quiet=True, cpu=True)
    waveform = 0.1 * torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0))
    # The encoder it started from, with the statistics that the file has, in chunks of the new length.
    start, source = load_encoder(run, untrained=True), load_encoder(m2d)
    for name, value in source.backbone.state_dict().items():
        assert_close(start.backbone.state_dict()[name], value, rtol=0, atol=0)
    assert_close(start.front_end(waveform)[0], source.front_end(waveform)[0])
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows]
    assert sum(losses[-5:]) < sum(losses[:5])
    assert not torch.allclose(load_encoder(run).embed_clip(waveform), start.embed_clip(waveform), atol=1e-3)
    assert json.loads((run / "statistics.json").read_text())["source"] == "init"


def test_a_run_is_resumed_without_the_encoder_it_started_from(m2d, tmp_path):
    import shutil

    source = shutil.copytree(m2d, tmp_path / "gone")
    path = write(tmp_path, source, "steps = 40 -> steps = 4")
    run = ssl_wb.train(path, out=tmp_path / "run", quiet=True, cpu=True)
    shutil.rmtree(source)
    ssl_wb.train(path, out=run, resume=True, quiet=True, cpu=True)
    # An own run is a start like any other.
    second = write(tmp_path, run, "steps = 40 -> steps = 2")
    again = ssl_wb.train(second, out=tmp_path / "second", quiet=True, cpu=True)
    first = load_encoder(run).backbone.state_dict()
    for name, value in load_encoder(again, untrained=True).backbone.state_dict().items():
        assert_close(value, first[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("center = true -> center = false", "front_end.center: False here, and True"),
        ("center = true -> mean = 1.0\nstd = 1.0\ncenter = true", "front_end.mean: 1 here"),
        ('name = "log-mel" -> name = "kaldi-fbank"', "front_end.name"),
        ("depth = 3 -> depth = 4", "trunk.blocks.3.attn.proj.bias is not in the encoder"),
        ("depth = 3 -> depth = 2", "trunk.blocks.2.attn.proj.bias is in the encoder"),
        ("dim = 48 -> dim = 64", "cls_token is [1, 1, 48] in the encoder and [1, 1, 64]"),
    ],
)
def test_another_front_end_or_backbone_is_refused_before_anything_is_written(change, says, m2d, tmp_path):
    if "kaldi" in change:
        change = 'name = "log-mel"\ncenter = true -> name = "kaldi-fbank"'
    with pytest.raises(RecipeError) as caught:
        ssl_wb.train(write(tmp_path, m2d, change), out=tmp_path / "run", quiet=True, cpu=True)
    assert says in caught.value.message
    assert "config.json" in caught.value.hint
    assert not (tmp_path / "run").exists()


def test_a_place_without_an_encoder_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"init\.from"):
        ssl_wb.train(write(tmp_path, tmp_path / "absent"), out=tmp_path / "run", quiet=True, cpu=True)


def test_trained_positions_are_resampled_for_longer_clips_and_cut_for_shorter_ones():
    from ssl_wb.encoder.importing.convert import import_checkpoint
    from ssl_wb.encoder.initial import initial_weights
    from ssl_wb_plugins.backbones.vit import Vit

    parts = import_checkpoint(only("inference_audiomosaic_hf")[0]).parts
    source = parts.build("").backbone
    for frames in (source.frames // 2, source.frames * 2):
        target = Vit(source.options, 128, frames)
        weights = initial_weights(parts, target, "recipe")
        target.load_state_dict(weights)
        grid = target.grid_of(frames)
        assert_close(target.positions(grid, torch.device("cpu")), source.positions(grid, torch.device("cpu")))
