"""Fine-tuning on tones a small encoder has to learn, and each of its parts against its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ssl_wb.api import DataError, ProbeTask, Split
from ssl_wb.audio.front_end import FrontEnd
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.recipe.schema import FrontEndSection
from ssl_wb_plugins.backbones.vit import Vit, VitOptions
from ssl_wb_plugins.evaluators import fine_tune_parts as parts
from ssl_wb_plugins.evaluators.fine_tune import FineTune, FineTuneOptions
from ssl_wb_plugins.evaluators.linear import LinearOptions, LinearProbe

QUICK = {"epochs": 6, "batch_size": 8, "freq_mask": 4, "time_mask": 4, "mixup": 0.0, "layer_decay": 0.9, "lr": 3e-3}


@pytest.fixture
def encoder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = Vit(VitOptions(dim=32, depth=2, heads=2), 80)
    return FrozenEncoder(FrontEnd(FrontEndSection(), -7.0, 4.0), backbone, 32)


def tones(encoder, clips=60, *, held_out=False, splits=1):
    """Clips of a rising or a falling tone under noise, 0.3 to 0.6 s: the same sounds in another order."""
    random = np.random.default_rng(0)
    labels = np.arange(clips) % 2
    waves = []
    for label in labels:
        time = np.arange(int(16000 * random.uniform(0.3, 0.6))) / 16000
        share = time / time[-1]
        freq = 400 * 2 ** (3 * (share if label else 1 - share))
        wave = np.sin(2 * np.pi * np.cumsum(freq) / 16000) + 0.1 * random.normal(size=len(time))
        waves.append((0.3 * wave).astype(np.float32))
    rows = random.permutation(clips)
    train, validation, test = (np.sort(part) for part in np.split(rows, [clips // 2, clips * 2 // 3]))
    return ProbeTask(
        "tones",
        np.zeros((clips, 0), dtype=np.float32),
        labels.astype(np.int64),
        ["falling", "rising"],
        [Split(f"split {number}", train, validation, test, held_out=held_out) for number in range(splits)],
        encoder=encoder,
        read=lambda row: waves[row],
    )


def tune(task, seeds=(0,), **options):
    return FineTune(FineTuneOptions(**{**QUICK, **options}))(task, seeds)


def test_it_learns_what_a_linear_probe_of_the_same_encoder_does_not(encoder):
    task = tones(encoder, clips=90)
    result = tune(task, epochs=20)
    with torch.no_grad():
        embedded = np.stack([encoder.embed_clip(torch.from_numpy(task.read(row)))[0].numpy() for row in range(90)])
    linear = LinearProbe(LinearOptions())(replace(task, embeddings=embedded), (0,))
    assert result.metric == "accuracy"
    assert result.mean > 0.9
    assert result.mean >= linear.mean


def test_the_encoder_itself_stays_as_it_is(encoder):
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    tune(tones(encoder), epochs=1)
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("held_out", [False, True])
def test_neither_the_choice_nor_the_weights_depend_on_test_labels(encoder, held_out):
    task = tones(encoder, held_out=held_out)
    other = task.labels.copy()
    other[task.splits[0].test] = 1 - other[task.splits[0].test]
    one = tune(task, lr=[1e-4, 3e-3], epochs=2)
    two = tune(replace(task, labels=other), lr=[1e-4, 3e-3], epochs=2)
    assert one.settings["chosen"] == two.settings["chosen"]
    assert one.settings["chosen"]["split 0"]["refit"] is held_out
    np.testing.assert_array_equal(one.scores[0].scores, two.scores[0].scores)
    assert one.mean == pytest.approx(1 - two.mean)


def test_seeds_repeat_exactly_and_differ(encoder):
    task = tones(encoder)
    one, two = tune(task, seeds=(0, 1), epochs=2), tune(task, seeds=(0, 1), epochs=2)
    np.testing.assert_array_equal(one.scores[0].scores, two.scores[0].scores)
    assert np.abs(one.scores[0].scores[0] - one.scores[0].scores[1]).max() > 0


def test_every_option_runs(encoder):
    task = tones(encoder)
    every = {"patchout": 0.4, "mixup": 0.5, "resized_crop": True, "balanced": True, "epoch_clips": 12, "epochs": 2}
    for pool in ("rows", "mean"):
        result = tune(task, pool=pool, precision="bf16", freeze_embedding=True, memory=0.0, **every)
        assert 0.0 <= result.mean <= 1.0
    several = replace(task, labels=np.eye(2, dtype=np.float32)[task.labels])
    assert tune(several, epochs=1).metric == "mAP"
    assert tune(replace(task, labels=task.labels * 12.0 + 60, classes=["pitch"]), epochs=1).metric == "R2"


def test_the_best_epoch_is_kept_or_the_last(encoder):
    assert tune(tones(encoder), keep="last", epochs=3).settings["chosen"]["split 0"]["epochs"] == [3]
    assert tune(tones(encoder, held_out=True), epochs=3).settings["chosen"]["split 0"]["epochs"] == [3]
    chosen = tune(tones(encoder, held_out=True), keep="best", epochs=3).settings["chosen"]["split 0"]
    assert chosen["refit"] is False
    assert chosen["epochs"][0] in (1, 2, 3)


def test_pooled_rows_are_the_frozen_encoders_embedding(encoder):
    # Whole chunks: the encoder reads a last part of one alone, and fine-tuning pads it.
    samples = encoder.front_end.samples_of(2 * 32)
    waveform = torch.randn(3, samples, generator=torch.Generator().manual_seed(1)) * 0.1
    model = parts.FineTuned(encoder, 2, "rows", 0.0).eval()
    with torch.no_grad():
        spectrogram = encoder.front_end(waveform)[0]
        pooled = model.embed(spectrogram, torch.full((3,), 4))
    torch.testing.assert_close(pooled, encoder.embed_clip(waveform), rtol=1e-4, atol=1e-5)


def test_padding_does_not_count_in_the_mean(encoder):
    model = parts.FineTuned(encoder, 2, "mean", 0.0).eval()
    spectrogram = torch.randn(1, 80, 64)
    with torch.no_grad():
        first = model.embed(spectrogram[:, :, :32], torch.tensor([2]))
        # A second chunk past the clip's end is computed and weighs nothing.
        torch.testing.assert_close(model.embed(spectrogram, torch.tensor([2])), first)
        assert (model.embed(spectrogram, torch.tensor([4])) - first).abs().max() > 1e-3


@pytest.mark.parametrize("pool", ["rows", "mean"])
def test_patchout_leaves_out_patches_in_training_only(encoder, pool):
    model = parts.FineTuned(encoder, 2, pool, 0.5)
    seen = []
    model.backbone.trunk.register_forward_hook(lambda _, tokens, __: seen.append(tokens[0].shape[1] - 1))
    spectrogram, columns = torch.randn(4, 80, 64), torch.tensor([4, 4, 1, 3])
    model.train().embed(spectrogram, columns)
    model.eval().embed(spectrogram, columns)
    assert seen[1] == 10  # 5 rows x 2 columns in each of two chunks
    assert seen[0] < 10
    if pool == "rows":
        assert seen[0] == 5
        pooled = model.train().embed(spectrogram, columns)
        assert (pooled[2] != 0).any()  # the only column with sound is never the one left out


def test_rates_fall_with_the_depth(encoder):
    model = parts.FineTuned(encoder, 2, "rows", 0.0)
    groups = model.groups(1.0, 0.1, 0.5, freeze_embedding=False)
    rate = {id(one): group["lr"] for group in groups for one in group["params"]}
    named = dict(model.named_parameters())
    assert len(rate) == len(named)
    # Two blocks: layers are 3; the embedding has id 0, blocks 1 and 2, the rest 3.
    assert rate[id(named["backbone.proj.weight"])] == rate[id(named["backbone.cls_token"])] == 0.125
    assert rate[id(named["backbone.trunk.blocks.0.mlp.fc1.weight"])] == 0.25
    assert rate[id(named["backbone.trunk.blocks.1.mlp.fc1.bias"])] == 0.5
    assert rate[id(named["backbone.trunk.norm.weight"])] == rate[id(named["linear.weight"])] == 1.0
    assert {group["weight_decay"] for group in groups for one in group["params"] if one.dim() <= 1} == {0.0}
    model.groups(1.0, 0.1, 0.5, freeze_embedding=True)
    frozen = {name for name, one in model.named_parameters() if not one.requires_grad}
    assert frozen == {"backbone.proj.weight", "backbone.proj.bias", "backbone.cls_token"}


def test_the_rate_rises_and_falls_in_every_layer(encoder, monkeypatch):
    seen = []

    class Recorded(torch.optim.AdamW):
        def step(self, *arguments, **named):
            seen.append([group["lr"] for group in self.param_groups])
            return super().step(*arguments, **named)

    monkeypatch.setattr(torch.optim, "AdamW", Recorded)
    # 30 clips in 4 batches: 40 steps, 8 of them the warm-up.
    tune(tones(encoder), epochs=10, warmup=0.2, lr=1e-3, min_lr=1e-6, layer_decay=0.5)
    rates = np.array(seen)  # [steps, groups]
    head = rates.max(axis=1)
    assert len(head) == 40
    np.testing.assert_allclose(head[:8], 1e-3 * np.arange(1, 9) / 8)
    assert (np.diff(head[8:]) < 0).all()
    assert head[24] == pytest.approx(0.5e-3, rel=1e-2)
    assert 1e-6 < head[-1] < 1e-5
    np.testing.assert_allclose(rates / head[:, None], np.broadcast_to(rates[0] / head[0], rates.shape))
    assert (rates[0] / head[0]).min() == pytest.approx(0.125)  # the embedding, below two blocks and the head


def test_spec_augment_masks_a_band_and_a_stretch():
    torch.manual_seed(0)
    masked = parts.spec_augment(torch.ones(50, 80, 100), 20, 30) == 0
    bands, stretches = masked.all(dim=2).sum(dim=1), masked.all(dim=1).sum(dim=1)
    assert 10 < bands.max() <= 20
    assert 15 < stretches.max() <= 30
    assert len(bands.unique()) > 5
    torch.testing.assert_close(parts.spec_augment(torch.ones(2, 8, 8), 0, 0), torch.ones(2, 8, 8))


def test_mixup_mixes_labels_as_it_mixes_sound():
    torch.manual_seed(0)
    targets = torch.eye(6)
    spectrogram = targets[:, :, None].expand(-1, -1, 4).clone()
    mixed, columns, labels = parts.mixup(spectrogram, torch.arange(6), targets, 0.5)
    torch.testing.assert_close(mixed[:, :, 0], labels)
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(6))
    assert ((labels > 0.01) & (labels < 0.99)).any()
    assert (columns >= torch.arange(6)).all()
    assert parts.mixup(spectrogram, torch.arange(6), targets, 0.0)[0] is spectrogram


def test_a_resized_crop_keeps_the_shape_and_moves_the_sound():
    torch.manual_seed(0)
    spectrogram = torch.linspace(0, 1, 60).expand(5, 20, 60).clone()
    cropped = parts.random_resized_crop(spectrogram)
    assert cropped.shape == spectrogram.shape
    assert (cropped - spectrogram).abs().amax(dim=(1, 2)).min() > 0.02


def test_rare_labels_are_drawn_more_often():
    tuner = FineTune(FineTuneOptions(balanced=True, epoch_clips=20))
    targets = torch.zeros(200, 2)
    targets[:10, 0] = 1.0
    targets[10:, 1] = 1.0
    torch.manual_seed(0)
    drawn = [tuner._order(targets) for _ in range(20)]
    assert all(len(one.unique()) == 20 for one in drawn)
    assert np.mean([(one < 10).sum() for one in drawn]) > 6  # 1 if all were alike


def test_encoders_without_weights_are_refused(encoder):
    task = tones(encoder)
    with pytest.raises(DataError, match="cannot be fine-tuned"):
        tune(replace(task, encoder=object()))
    with pytest.raises(DataError, match="cannot be fine-tuned"):
        tune(replace(task, read=None))
    with pytest.raises(DataError, match="too few validation"):
        tune(replace(task, splits=[replace(task.splits[0], validation=np.zeros(0, dtype=np.int64))]))


@pytest.mark.parametrize("options", [{"lr": 0.0}, {"pool": "max"}, {"patchout": 1.0}, {"epochs": 0}, {"rate": 1.0}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        FineTuneOptions(**options)
