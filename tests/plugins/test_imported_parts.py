"""What imported encoders need of front ends and backbones, each option on its own."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close
from torchaudio.compliance import kaldi
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

from ssl_wb.errors import UsageError
from ssl_wb.plugin.masker import Grid
from ssl_wb_plugins.backbones.beats import Beats, BeatsOptions, distance_classes
from ssl_wb_plugins.backbones.vit import Vit, VitOptions
from ssl_wb_plugins.front_ends.db_mel import DbMel
from ssl_wb_plugins.front_ends.kaldi_fbank import KaldiFbank
from ssl_wb_plugins.front_ends.log_mel import LogMel


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_povey_window_and_gain_are_kaldis():
    waveform = noise(1, 8000)
    options = KaldiFbank.Options(n_mels=64, n_fft=512, f_min=20.0, window_shape="povey", gain=2.0**15)
    theirs = kaldi.fbank(waveform * 2.0**15, num_mel_bins=64, sample_frequency=16000, window_type="povey")
    assert_close(KaldiFbank(options).log_mel(waveform)[0][0].T, theirs, rtol=1e-4, atol=1e-4)
    hann = KaldiFbank(options.model_copy(update={"window_shape": "hanning"}))
    assert not torch.allclose(hann.log_mel(waveform)[0][0].T, theirs, atol=1e-2)


def test_clip_statistics_are_those_of_each_clips_own_frames():
    front_end = LogMel(LogMel.Options(clip_statistics=True), 3.0, 9.0)
    batch, lengths = noise(2, 16000), torch.tensor([16000, 6000])
    batch[1] *= 0.01
    batch[1, 6000:] = 5.0  # past the end of the clip
    normalised, frames = front_end(batch, lengths)
    for clip, count in enumerate(frames.tolist()):
        own = normalised[clip, :, :count]
        assert_close(own.mean(), torch.tensor(0.0), rtol=0, atol=1e-5)
        assert_close(own.std(), torch.tensor(1.0), rtol=1e-5, atol=1e-5)
    assert_close(normalised[1, :, : frames[1]], front_end(batch[1:, :6000])[0][0], rtol=1e-4, atol=1e-4)
    assert bool(front_end(torch.zeros(1, 4000))[0].isfinite().all())  # digital silence


def test_min_samples_extends_with_silence_before_the_mean_is_removed():
    options = {"n_mels": 64, "n_fft": 512, "f_min": 20.0, "subtract_mean": True}
    short = noise(1, 5000) + 0.3
    extended = torch.nn.functional.pad(short, (0, 11000))
    front_end = KaldiFbank(KaldiFbank.Options(**options, min_samples=16000))
    plain = KaldiFbank(KaldiFbank.Options(**options))
    assert_close(front_end(short)[0], plain(extended)[0])
    assert front_end.frames_of(5000) == front_end(short)[0].shape[2] == plain.frames_of(16000)
    assert front_end(short, torch.tensor([5000]))[1].tolist() == [plain.frames_of(16000)]
    assert front_end.samples_of(1) == 16000


def test_db_mel_is_torchaudios_with_a_floor_of_each_clip():
    waveform = noise(1, 8000)
    waveform[:, 4000:] *= 1e-9
    mel = MelSpectrogram(16000, n_fft=512, hop_length=160, f_max=8000.0, n_mels=64)(waveform)
    theirs = AmplitudeToDB(top_db=120)(mel)
    front_end = DbMel(DbMel.Options(range_db=120.0))
    ours, frames = front_end(waveform)
    assert frames.tolist() == [51]
    assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
    # A loud batch mate changes nothing here, unlike in the release.
    loud = torch.cat([waveform, 1e4 * noise(1, 8000, seed=1)])
    assert_close(front_end(loud)[0][0], ours[0])


def test_db_mel_scales_each_band():
    scale, shift = torch.rand(64) + 0.5, torch.randn(64)
    options = DbMel.Options(band_scale=scale.tolist(), band_shift=shift.tolist())
    waveform = noise(1, 8000)
    plain = DbMel(DbMel.Options())(waveform)[0]
    assert_close(DbMel(options)(waveform)[0], plain * scale[:, None] + shift[:, None], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options", [{"band_scale": [1.0]}, {"f_max": 9000.0}, {"n_fft": 256}, {"band_scale": [1.0], "band_shift": [0.0]}]
)
def test_db_mel_refuses_options_that_do_not_fit(options):
    with pytest.raises(ValueError, match=r"f_m|n_fft|band_"):
        DbMel.Options(**options)


def test_vit_averages_the_normed_outputs_of_its_last_blocks():
    options = {"dim": 16, "depth": 4, "heads": 2}
    vit = Vit(VitOptions(**options, averaged_blocks=3), 80)
    tokens = torch.randn(2, 9, 16)
    blocks = vit.trunk.layers(tokens)
    assert_close(vit(tokens), torch.stack([vit.trunk.norm(one) for one in blocks[1:]]).mean(dim=0))
    with pytest.raises(ValueError, match="averaged_blocks 5"):
        VitOptions(**options, averaged_blocks=5)


def test_vit_takes_the_epsilon_of_its_norms():
    vit = Vit(VitOptions(dim=16, depth=1, heads=2, norm_eps=1e-3, patch_norm=True, pool_norm=True, pre_norm=True), 80)
    norms = [one for one in vit.modules() if isinstance(one, torch.nn.LayerNorm)]
    assert len(norms) == 6
    assert {one.eps for one in norms} == {1e-3}


def test_distance_classes_are_those_of_the_formula():
    count, buckets, most = 60, 16, 30
    half, exact = buckets // 2, buckets // 4
    found = distance_classes(count, buckets, most, torch.device("cpu"))
    for query, key in ((0, 0), (5, 5), (3, 5), (5, 3), (0, 59), (59, 0), (10, 25), (25, 10), (0, 8)):
        offset = key - query
        size = abs(offset)
        wide = size
        if size >= exact:
            wide = min(half - 1, exact + int(math.log(size / exact) / math.log(most / exact) * (half - exact)))
        assert int(found[query, key]) == (half if offset > 0 else 0) + wide


SMALL = {"dim": 16, "depth": 2, "heads": 2, "hidden": 24, "patch_dim": 8, "conv_kernel": 4, "conv_groups": 2}


def test_beats_reads_whole_clips_and_says_why_it_cannot_be_masked():
    beats = Beats(BeatsOptions(**SMALL, buckets=8, max_distance=20), 128)
    grid = Grid(8, 3)
    patches = torch.randn(2, grid.cells, 256)
    latents = beats(beats.embed(patches, grid))
    assert latents.shape == (2, grid.cells, 16)
    assert_close(beats.layers(beats.embed(patches, grid))[-1], latents)
    with pytest.raises(UsageError, match="part of a clip's patches"):
        beats.embed(patches, grid, torch.arange(6).expand(2, -1))
    with pytest.raises(UsageError, match="whole clips of 8 rows"):
        beats(torch.randn(2, 7, 16))
    latents.sum().backward()
    assert all(one.grad is not None for one in beats.parameters())


@pytest.mark.parametrize("options", [{"heads": 3}, {"conv_groups": 3}, {"buckets": 320, "max_distance": 40}])
def test_beats_refuses_sizes_that_do_not_fit(options):
    with pytest.raises(ValueError, match=r"multiple|max_distance"):
        BeatsOptions(**{**SMALL, **options})
