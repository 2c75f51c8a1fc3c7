"""Fine-tuning on tones a small encoder has to learn, and each of its parts against its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ssl_wb.api import (
    DataError,
    EncoderWithHead,
    Grid,
    MaskRequest,
    ProbeTask,
    Split,
    TaskSpectrograms,
    Trunk,
    mixup,
    mixup_draw,
    published_pool,
    random_resized_crop,
    roll_in_time,
    spec_augment,
)
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.errors import PluginError
from ssl_wb.layers.patches import patchify
from ssl_wb.probing.patchout import structured_patchout, two_way_patchout
from ssl_wb_plugins.backbones.vit import Vit, VitOptions
from ssl_wb_plugins.evaluators import fine_tune
from ssl_wb_plugins.evaluators.fine_tune import FineTune, FineTuneOptions
from ssl_wb_plugins.evaluators.linear import LinearOptions, LinearProbe
from ssl_wb_plugins.front_ends.log_mel import LogMel
from ssl_wb_plugins.maskers.structured import StructuredMasker, StructuredOptions

QUICK = {"epochs": 6, "batch_size": 8, "freq_mask": 4, "time_mask": 4, "mixup": 0.0, "layer_decay": 0.9, "lr": 3e-3}


@pytest.fixture
def encoder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = Vit(VitOptions(dim=32, depth=2, heads=2), 80)
    return FrozenEncoder(LogMel(LogMel.Options(), -7.0, 4.0), backbone, 32)


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


def test_every_published_option_runs(encoder):
    audiomosaic = {"mixup": 10.0, "mixup_share": 0.8, "mixup_on": "waveform", "roll": True, "patch_drop": [0.2, 0.2]}
    task = tones(encoder, clips=24)
    result = tune(task, pool="pooled", head="none", head_std=2.5e-5, drop_path=0.1, epochs=2, **audiomosaic)
    assert 0.0 <= result.mean <= 1.0
    assert tune(task, pool="clip-token", head="layer", patchout=0.2, epochs=1).mean >= 0.0


def test_the_published_pooling_is_the_encoders(encoder):
    assert tune(tones(encoder)).mean == tune(tones(encoder), pool="rows").mean  # says nothing: folded
    encoder.fine_tuned = "clip-token"
    assert published_pool(encoder) == "clip-token"
    result = tune(tones(encoder), epochs=1)
    np.testing.assert_array_equal(
        result.scores[0].scores, tune(tones(encoder), pool="clip-token", epochs=1).scores[0].scores
    )


def test_class_token_and_own_pooling_of_one_chunk_are_the_backbones(encoder):
    spectrogram, columns = torch.randn(2, 80, 32), torch.tensor([2, 2])
    with torch.no_grad():
        patches = patchify(spectrogram, encoder.backbone.patch)
        latents = encoder.backbone(encoder.backbone.embed(patches, Grid(5, 2)))
        token = EncoderWithHead(encoder, 2, "clip-token", 0.0).eval().embed(spectrogram, columns)
        pooled = EncoderWithHead(encoder, 2, "pooled", 0.0).eval().embed(spectrogram, columns)
    torch.testing.assert_close(token, latents[:, 0])
    torch.testing.assert_close(pooled, encoder.backbone.pool(latents))


def test_heads_are_the_published_ones(encoder):
    torch.manual_seed(0)
    model = EncoderWithHead(encoder, 200, "mean", 0.0, "layer", 2.5e-5)
    assert model.linear.weight.std().item() == pytest.approx(2.5e-5, rel=0.1)
    assert isinstance(model.norm, torch.nn.LayerNorm)
    assert isinstance(EncoderWithHead(encoder, 2, "mean", 0.0).norm, torch.nn.BatchNorm1d)


def test_patch_drop_leaves_a_cross_product_of_rows_and_columns():
    sound = torch.ones(6, 10)
    sound[0, 4:] = 0  # padding goes first
    kept = two_way_patchout(Grid(5, 10), sound, 0.2, 0.4, torch.Generator().manual_seed(0))  # [6, 3 * 8]
    assert kept.shape == (6, 24)
    for row, one in enumerate(kept):
        assert len((one // 10).unique()) == 3
        assert len((one % 10).unique()) == 8
        if row == 0:
            assert set(range(4)) <= set((one % 10).tolist())


def test_patch_drop_acts_in_training_only(encoder):
    model = EncoderWithHead(encoder, 2, "mean", 0.0, patch_drop=[0.5, 0.4])
    seen = []
    model.backbone.trunk.register_forward_hook(lambda _, tokens, __: seen.append(tokens[0].shape[1] - 1))
    spectrogram, columns = torch.randn(2, 80, 64), torch.tensor([4, 4])
    model.train().embed(spectrogram, columns)
    model.eval().embed(spectrogram, columns)
    assert seen == [3, 10]  # of 5 rows x 2 columns in each chunk 3 x 1 are left


@pytest.mark.parametrize(
    ("options", "name", "arguments"),
    [
        ({"roll": True}, "roll_in_time", ()),
        ({"mixup": 10.0, "mixup_share": 0.8}, "mixup", (10.0, 0.8)),
        ({"mixup": 10.0, "mixup_share": 0.8, "mixup_on": "waveform"}, "mixup_draw", (10.0, 0.8)),
    ],
)
def test_published_augmentations_are_applied_as_the_options_say(encoder, monkeypatch, options, name, arguments):
    task, used, original = tones(encoder, clips=12), [], getattr(fine_tune, name)
    monkeypatch.setattr(fine_tune, name, lambda *given: used.append(given) or original(*given))
    tune(task, epochs=1, keep="last", **options)
    assert used
    assert used[0][len(used[0]) - len(arguments) :] == arguments
    used.clear()
    tune(task, epochs=1, keep="last")
    assert not used or used[0][3] == 0.0  # `mixup` of no clip


def test_waveforms_are_mixed_before_the_front_end(encoder):
    task = tones(encoder, clips=6)
    spectrograms = TaskSpectrograms(task, encoder, 10.0, 1.0)
    clips, others = np.array([0, 1]), np.array([2, 3])
    alone, columns = spectrograms.mixed(clips, others, np.array([1.0, 1.0]))
    plain, _ = spectrograms.batch(clips, random=False)
    shared = int(columns[0]) * 16 - 32  # without the end, which the longer partner makes longer
    torch.testing.assert_close(alone[0, :, :shared], plain[0, :, :shared], rtol=1e-3, atol=2e-2)
    first, second = (np.array(task.read(one)) - task.read(one).mean() for one in (0, 2))
    wave = np.zeros(max(len(first), len(second)), dtype=np.float32)
    wave[: len(first)] += 0.25 * first
    wave[: len(second)] += 0.75 * second
    expected = encoder.front_end(torch.from_numpy(wave - wave.mean())[None])[0][0]
    mixed, _ = spectrograms.mixed(clips[:1], others[:1], np.array([0.25]))
    torch.testing.assert_close(mixed[0, :, : expected.shape[1]], expected)


def test_a_share_of_mixup_leaves_the_other_clips_alone():
    torch.manual_seed(0)
    other, weight = mixup_draw(2000, 10.0, 0.8)
    assert sorted(other.tolist()) == list(range(2000))
    assert (weight < 1).float().mean().item() == pytest.approx(0.8, abs=0.03)


def test_rolling_is_a_circle_within_the_clips_own_frames():
    torch.manual_seed(0)
    spectrogram = torch.arange(12.0).expand(2, 3, 12).clone()
    rolled = roll_in_time(spectrogram, torch.tensor([5, 12]))
    assert sorted(rolled[0, 0, :5].tolist()) == [0, 1, 2, 3, 4]
    assert torch.equal(rolled[0, :, 5:], spectrogram[0, :, 5:])
    steps = rolled[1, 0].diff()
    assert ((steps == 1) | (steps == -11)).all()


def test_tokens_and_fixed_tables_are_not_decayed(encoder):
    model = EncoderWithHead(encoder, 2, "rows", 0.0)
    groups = model.groups(1.0, 0.1, 1.0, freeze_embedding=False)
    decayed = {id(one) for group in groups if group["weight_decay"] for one in group["params"]}
    names = {name for name, one in model.named_parameters() if id(one) in decayed}
    assert "backbone.cls_token" not in names
    assert {"backbone.proj.weight", "linear.weight"} <= names


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
    model = EncoderWithHead(encoder, 2, "rows", 0.0).eval()
    with torch.no_grad():
        spectrogram = encoder.front_end(waveform)[0]
        pooled = model.embed(spectrogram, torch.full((3,), 4))
    torch.testing.assert_close(pooled, encoder.embed_clip(waveform), rtol=1e-4, atol=1e-5)


def test_padding_does_not_count_in_the_mean(encoder):
    model = EncoderWithHead(encoder, 2, "mean", 0.0).eval()
    spectrogram = torch.randn(1, 80, 64)
    with torch.no_grad():
        first = model.embed(spectrogram[:, :, :32], torch.tensor([2]))
        # A second chunk past the clip's end is computed and weighs nothing.
        torch.testing.assert_close(model.embed(spectrogram, torch.tensor([2])), first)
        assert (model.embed(spectrogram, torch.tensor([4])) - first).abs().max() > 1e-3


@pytest.mark.parametrize("pool", ["rows", "mean"])
def test_patchout_leaves_out_patches_in_training_only(encoder, pool):
    model = EncoderWithHead(encoder, 2, pool, 0.5)
    seen = []
    model.backbone.trunk.register_forward_hook(lambda _, tokens, __: seen.append(tokens[0].shape[1] - 1))
    spectrogram, columns = torch.randn(4, 80, 64), torch.tensor([4, 4, 1, 3])
    model.train().embed(spectrogram, columns)
    model.eval().embed(spectrogram, columns)
    assert seen[1] == 10  # 5 rows x 2 columns in each of two chunks
    assert seen[0] < 10
    if pool == "rows":
        assert seen[0] == 5
    for _ in range(20):
        pooled = model.train().embed(spectrogram, columns)
        assert (pooled[2] != 0).any()  # the only column with sound is never the one left out


def test_rates_fall_with_the_depth(encoder):
    model = EncoderWithHead(encoder, 2, "rows", 0.0)
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
    masked = spec_augment(torch.ones(50, 80, 100), 20, 30) == 0
    bands, stretches = masked.all(dim=2).sum(dim=1), masked.all(dim=1).sum(dim=1)
    assert 10 < bands.max() <= 20
    assert 15 < stretches.max() <= 30
    assert len(bands.unique()) > 5
    torch.testing.assert_close(spec_augment(torch.ones(2, 8, 8), 0, 0), torch.ones(2, 8, 8))


def test_mixup_mixes_labels_as_it_mixes_sound():
    torch.manual_seed(0)
    targets = torch.eye(6)
    spectrogram = targets[:, :, None].expand(-1, -1, 4).clone()
    mixed, columns, labels = mixup(spectrogram, torch.arange(6), targets, 0.5)
    torch.testing.assert_close(mixed[:, :, 0], labels)
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(6))
    assert ((labels > 0.01) & (labels < 0.99)).any()
    assert (columns >= torch.arange(6)).all()
    assert mixup(spectrogram, torch.arange(6), targets, 0.0)[0] is spectrogram


def test_a_resized_crop_keeps_the_shape_and_moves_the_sound():
    torch.manual_seed(0)
    spectrogram = torch.linspace(0, 1, 60).expand(5, 20, 60).clone()
    cropped = random_resized_crop(spectrogram, torch.full((5,), 60))
    assert cropped.shape == spectrogram.shape
    assert (cropped - spectrogram).abs().amax(dim=(1, 2)).min() > 0.02


def test_a_resized_crop_stays_within_the_clips_own_width():
    torch.manual_seed(0)
    widths = torch.tensor([16, 32, 64, 160] * 100)
    own = torch.arange(160) < widths[:, None]  # [B, T]
    spectrogram = torch.where(own, 1.0, -3.0)[:, None].expand(-1, 20, -1).clone()
    cropped = random_resized_crop(spectrogram, widths).mean(dim=1)  # [B, T]
    assert (cropped[~own] == -3.0).all()
    sound = (cropped > 0.5) & own
    # The clip is in the middle of its canvas: a crop of 0.6 at the canvas' edge is 0.25 empty and 0.35 sound.
    assert (sound.sum(dim=1) / widths).min() >= 0.5
    assert (sound.sum(dim=1) / widths).min() < 0.7
    assert len(cropped[3::4, :160].unique(dim=0)) > 90


@pytest.mark.parametrize("pool", ["rows", "mean"])
def test_a_step_with_resized_crops_pools_sound(encoder, pool):
    # Sound of 1 in one column of ten; what is pooled of it must not be padding.
    tuner = FineTune(FineTuneOptions(resized_crop=True, mixup=0.0, freq_mask=0, time_mask=0, pool=pool))
    seen = []

    def model(batch, columns):
        seen.append((batch, columns))
        return torch.zeros(len(batch), 1, requires_grad=True)

    model.backbone = encoder.backbone
    spectrogram = torch.full((200, 80, 160), -3.0)
    spectrogram[:, :, :16] = 1.0
    torch.manual_seed(0)
    tuner._loss(model, spectrogram, torch.ones(200, dtype=torch.int64), torch.zeros(200, 1), Squared())
    batch, columns = seen[0]
    pooled = torch.arange(160) < 16 * columns[:, None]  # [B, T]
    sounding = (batch.mean(dim=1) > 0.5) & pooled
    assert (sounding.sum(dim=1) / pooled.sum(dim=1)).min() >= 0.5


class Squared:
    """A loss for what looks at the batch only."""

    def loss(self, logits, targets):
        return ((logits - targets) ** 2).mean()


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.9])
def test_structured_patchout_never_takes_all_the_sound_of_a_short_clip(encoder, ratio):
    model = EncoderWithHead(encoder, 2, "mean", ratio)
    grid, columns = Grid(5, 8), torch.arange(9)
    sound = (torch.arange(8) < columns[:, None]).float()  # [9, T]
    torch.manual_seed(0)
    for _ in range(200):
        visible = model._visible(grid, sound)
        times = visible % grid.time
        sounding = (times < columns[:, None]).sum(dim=1)  # [9]
        assert (sounding[1:] > 0).all()
        dropped = grid.time - len(times[0].unique())
        kept = [len(one.unique()) for one in times]
        assert kept == [grid.time - dropped] * 9
        # A column of sound goes only where no padding is left to go.
        for number, one in enumerate(times):
            assert len(one[one < number].unique()) == min(number, grid.time - dropped)


def test_patchout_of_whole_clips_is_the_structured_masker():
    grid, patches = Grid(5, 8), torch.zeros(64, 40, 1)
    for seed in range(20):
        request = MaskRequest(patches, grid, 0.0, torch.Generator().manual_seed(seed))
        wanted = StructuredMasker(StructuredOptions(ratio=0.5))(request)[0].visible
        found = structured_patchout(grid, torch.ones(64, 8), 0.5, torch.Generator().manual_seed(seed))
        assert torch.equal(found, wanted)


def long_tailed():
    """Targets ``[200, 2]``: the first 10 clips have the rare label."""
    targets = torch.zeros(200, 2)
    targets[:10, 0] = 1.0
    targets[10:, 1] = 1.0
    return targets


@pytest.mark.parametrize("epoch_clips", [None, 200, 500])
def test_a_balanced_epoch_draws_labels_alike_and_in_random_order(epoch_clips):
    tuner = FineTune(FineTuneOptions(balanced=True, epoch_clips=epoch_clips))
    torch.manual_seed(0)
    drawn = torch.stack([tuner._order(long_tailed()) for _ in range(50)])  # [50, 200]
    rare = (drawn < 10).float()
    # Two labels whose weights sum to the same: half of 10000 draws each, 0.005 their deviation.
    assert abs(rare.mean() - 0.5) < 0.02
    assert abs(rare[:, :50].mean() - rare[:, 150:].mean()) < 0.05
    assert torch.bincount(drawn[drawn < 10]).min() > 400  # of 500


def test_rare_labels_are_drawn_more_often_without_replacement():
    tuner = FineTune(FineTuneOptions(balanced=True, epoch_clips=20))
    torch.manual_seed(0)
    drawn = torch.stack([tuner._order(long_tailed()) for _ in range(400)])  # [400, 20]
    assert all(len(one.unique()) == 20 for one in drawn)
    rare = (drawn < 10).float()
    assert rare.sum(dim=1).mean() > 6  # 1 if all were alike
    assert abs(rare[:, :5].mean() - rare[:, 15:].mean()) < 0.08  # heavy ones do not come first


def test_an_epoch_without_balance_is_every_clip_once():
    torch.manual_seed(0)
    tuner = FineTune(FineTuneOptions())
    assert torch.equal(tuner._order(long_tailed()).sort().values, torch.arange(200))


def test_balanced_numbers_are_refused(encoder):
    task = tones(encoder)
    with pytest.raises(DataError, match="balanced needs classes"):
        tune(replace(task, labels=task.labels * 12.0 + 60, classes=["pitch"]), balanced=True)


def test_sgd_has_momentum_and_the_rates_of_the_layers(encoder, monkeypatch):
    seen = []

    class Recorded(torch.optim.SGD):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            seen.extend(self.param_groups)

    monkeypatch.setattr(torch.optim, "SGD", Recorded)
    result = tune(tones(encoder), optimizer="sgd", lr=0.1, layer_decay=0.5, weight_decay=0.0, epochs=20)
    assert {group["momentum"] for group in seen} == {0.9}
    assert min(group["lr"] for group in seen) / max(group["lr"] for group in seen) == pytest.approx(0.125)
    assert result.mean > 0.7


def test_encoders_without_weights_are_refused(encoder):
    task = tones(encoder)
    with pytest.raises(DataError, match="cannot be fine-tuned"):
        tune(replace(task, encoder=object()))
    with pytest.raises(DataError, match="cannot be fine-tuned"):
        tune(replace(task, read=None))
    with pytest.raises(DataError, match="leaves out whole rows"):
        tune(task, patch_drop=[0.2, 0.2])
    with pytest.raises(DataError, match="too few validation"):
        tune(replace(task, splits=[replace(task.splits[0], validation=np.zeros(0, dtype=np.int64))]))


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.0},
        {"pool": "max"},
        {"patchout": 1.0},
        {"epochs": 0},
        {"rate": 1.0},
        {"optimizer": "lars"},
        {"patch_drop": [0.2, 0.2], "patchout": 0.5},
    ],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        FineTuneOptions(**options)


def with_drop_path(rate: float) -> FrozenEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = Vit(VitOptions(dim=32, depth=2, heads=2, drop_path=rate), 80)
    return FrozenEncoder(LogMel(LogMel.Options(), -7.0, 4.0), backbone, 32)


def test_drop_path_acts_while_the_model_trains_and_follows_the_seed():
    spectrogram, columns = torch.randn(6, 80, 64), torch.full((6,), 4)

    def passes(seed, rate=0.5):
        torch.manual_seed(seed)
        model = EncoderWithHead(with_drop_path(rate), 2, "rows", 0.0).train()
        with torch.no_grad():
            return [model.embed(spectrogram, columns) for _ in range(2)] + [model.eval().embed(spectrogram, columns)]

    one, same, other, still = passes(0), passes(0), passes(1), passes(0, rate=0.0)
    torch.testing.assert_close(one, same, rtol=0, atol=0)
    for left, right in ((one[0], one[1]), (one[0], other[0]), (one[0], one[2])):
        assert (left - right).abs().max() > 1e-3
    # In evaluation it computes as without, and clips are dropped one by one: some keep all branches.
    torch.testing.assert_close(one[2], still[0], rtol=0, atol=0)
    assert len({round(float(one[0][row].norm() / one[2][row].norm()), 3) for row in range(6)}) > 1


def test_models_without_stochastic_layers_take_no_random_numbers_for_them(encoder):
    torch.manual_seed(3)
    model = EncoderWithHead(encoder, 2, "rows", 0.0).train()
    before = torch.get_rng_state()
    model.embed(torch.randn(2, 80, 64, generator=torch.Generator().manual_seed(0)), torch.full((2,), 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_fine_tuning_drops_paths_as_pretrained_or_as_told():
    task = tones(with_drop_path(0.5))
    own, again, told, none = (tune(task, epochs=2, drop_path=rate).scores[0].scores for rate in (None, None, 0.2, 0.0))
    np.testing.assert_array_equal(own, again)
    for other in (told, none):
        assert np.abs(own - other).max() > 0
    plain = tune(tones(with_drop_path(0.0)), epochs=2).scores[0].scores
    np.testing.assert_array_equal(none, plain)


def test_frozen_encoders_never_drop_paths_even_in_training_mode():
    waveform = torch.randn(4, 8000, generator=torch.Generator().manual_seed(1)) * 0.1
    dropping, still = with_drop_path(0.9), with_drop_path(0.0)
    expected = still.embed_clip(waveform)
    torch.testing.assert_close(dropping.embed_clip(waveform), expected, rtol=0, atol=0)
    torch.testing.assert_close(dropping.train().embed_clip(waveform), expected, rtol=0, atol=0)


def test_a_trunk_without_drop_path_says_so():
    class Still(Trunk):
        def forward(self, tokens):
            return tokens

        def layers(self, tokens, depth=None):
            return [tokens]

    with pytest.raises(PluginError, match="no drop path"):
        Still().set_drop_path(0.1)
