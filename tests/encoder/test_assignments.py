"""The classes of a run's own pretext task, asked of its encoder."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import soundfile
import torch
from torch.testing import assert_close

from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.load import build_pretext, load_encoder, open_run, run_weights
from ssl_wb.errors import RunFolderError
from ssl_wb.evaluation.embedding_cache import encoder_digest
from ssl_wb.layers.patches import patchify
from ssl_wb.plugin.evaluator import AssigningEncoder
from ssl_wb.workflows.pretrain import train
from ssl_wb_plugins.backbones.vit import Vit, VitOptions
from ssl_wb_plugins.front_ends.log_mel import LogMel

RECIPE = """
seed = 3
[data]
train = "{data}"
clip_seconds = 0.64
workers = 0
[masker]
name = "random"
ratio = 0.6
[backbone]
name = "vit"
dim = 16
depth = 1
heads = 2
[predictor]
dim = 16
depth = 1
heads = 2
[teacher]
decay = [0.5, 0.5]
[[objective]]
name = "malap"
{more}
[optimizer]
lr = 1e-2
[train]
steps = 6
batch_size = 4
precision = "fp32"
"""
DINO = """[[objective]]
name = "dino"
prototypes = 12
hidden = 16
bottleneck = 8
head_decay = [0.5, 0.5]
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run with the classification objective, and one without."""
    folder = tmp_path_factory.mktemp("runs")
    random = np.random.default_rng(0)
    (folder / "audio").mkdir()
    for number in range(4):
        wave = 0.1 * random.standard_normal(16_000) * np.linspace(0, number + 1, 16_000)
        soundfile.write(folder / "audio" / f"{number}.wav", wave, 16_000)
    for name, more in (("dino", DINO), ("malap", "")):
        (folder / f"{name}.toml").write_text(RECIPE.format(data=folder / "audio", more=more))
        train(folder / f"{name}.toml", out=folder / name, quiet=True, cpu=True)
    return folder


@pytest.fixture(scope="module")
def waveform() -> torch.Tensor:
    # 128 frames: two chunks of 64, four columns each.
    return 0.1 * torch.randn(2, 400 + 127 * 160, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("untrained", [False, True])
def test_classes_are_the_teachers_centred_as_in_training(runs, waveform, untrained):
    folder, loaded, front_end = open_run(runs / "dino")
    model = build_pretext(folder, loaded, None if untrained else run_weights(folder, "last")).eval()
    dino = model.objectives["dino"]
    assert bool(dino.center.any()) is not untrained
    spectrogram, _ = front_end(waveform)  # [2, 80, 128]
    expected, likeliest = [], []
    with torch.no_grad():
        for chunk in spectrogram.split(64, dim=2):
            grid = model.backbone.grid_of(64)
            latents = model.teacher(model.backbone.embed(patchify(chunk, (16, 16)), grid))[:, 1:]
            told = ((dino.teacher_head(latents) - dino.center) / 0.07).softmax(dim=-1)  # [2, 20, 12]
            expected.append(told)
            likeliest.append(told.argmax(dim=-1).view(2, 5, 4).transpose(1, 2))
    assigned = load_encoder(runs / "dino", untrained=untrained).assign(waveform)
    assert list(assigned) == ["dino"]
    assert_close(assigned["dino"].clips, torch.cat(expected, dim=1).mean(dim=1))
    assert torch.equal(assigned["dino"].patches, torch.cat(likeliest, dim=1))


def test_a_clip_alone_and_in_a_padded_batch_is_assigned_the_same(runs, waveform):
    encoder = load_encoder(runs / "dino")
    lengths = torch.tensor([waveform.shape[1], 9_000])
    state = torch.random.get_rng_state()
    both = encoder.assign(waveform, lengths)["dino"]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_close(both.clips.sum(dim=1), torch.ones(2))
    for row, length in enumerate(lengths.tolist()):
        alone = encoder.assign(waveform[row, :length])["dino"]
        count = encoder.columns_of(length)
        assert_close(both.clips[row], alone.clips[0])
        assert torch.equal(both.patches[row, :count], alone.patches[0])
        assert (both.patches[row, count:] == -1).all()
        assert alone.patches.min() >= 0


def test_an_encoder_without_classes_says_nothing(runs, waveform):
    assert load_encoder(runs / "malap").assign(waveform) == {}
    plain = FrozenEncoder(LogMel(LogMel.Options(), -7.0, 4.0), Vit(VitOptions(dim=16, depth=1, heads=2), 80), 64)
    assert plain.assign(waveform) == {}
    assert isinstance(plain, AssigningEncoder)


def test_the_pretext_model_is_no_part_of_the_encoder(runs, waveform):
    """It is loaded when asked for, and kept embeddings do not depend on whether it was."""
    encoder = load_encoder(runs / "dino")
    digest, names = encoder_digest(encoder), list(encoder.state_dict())
    encoder.assign(waveform)
    assert encoder_digest(encoder) == digest
    assert list(encoder.state_dict()) == names


def test_the_checkpoint_is_the_one_the_encoder_was_loaded_from(runs, waveform, tmp_path):
    run = shutil.copytree(runs / "dino", tmp_path / "run")
    encoder = load_encoder(run)
    pointed = (run / "checkpoints" / "last").read_text().strip()
    (run / "checkpoints" / pointed).rename(run / "checkpoints" / "step-gone")
    with pytest.raises(RunFolderError, match="cannot be read"):
        encoder.assign(waveform)
