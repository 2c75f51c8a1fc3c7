from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torchaudio.transforms import MelSpectrogram

from ssl_wb.api import LOG_OFFSET
from ssl_wb_plugins.front_ends.log_mel import LogMel

SMALL = {"n_mels": 16, "window": 64, "hop": 24, "n_fft": 80}


def front_end(mean=-7.0, std=4.0, **settings):
    return LogMel(LogMel.Options(**settings), mean, std)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def test_agrees_with_the_published_matpac_front_end(reference):
    golden = reference("tiny_matpac_io")
    matpac = front_end(-7.056, 4.193)
    log_mel, frames = matpac.log_mel(golden["waveform"])
    torch.testing.assert_close(log_mel, golden["log_mel"], rtol=1e-4, atol=1e-5)
    normalised, _ = matpac(golden["waveform"])
    torch.testing.assert_close(normalised, golden["log_mel_normalised"], rtol=1e-4, atol=1e-5)
    assert frames.tolist() == [728]


def test_agrees_with_the_published_m2d_front_end(reference, reference_weights):
    # nnAudio's transform is a convolution in float32: its rounding allows 5e-5, not 1e-5, near zero.
    golden = reference("tiny_m2d_io")
    mean, std = reference_weights("m2d_vit_base-80x208p16x16p16k/checkpoint-300.pth")["model"]["norm_stats"].tolist()
    normalised, _ = front_end(mean, std, center=True)(golden["waveform"])
    torch.testing.assert_close(normalised, golden["log_mel_normalised"][:, 0], rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(("window", "n_fft"), [(400, 400), (400, 512), (33, 81)])
def test_agrees_with_torchaudio(center, window, n_fft):
    ours = front_end(center=center, window=window, n_fft=n_fft, n_mels=20)
    theirs = MelSpectrogram(
        16000,
        n_fft=n_fft,
        win_length=window,
        hop_length=160,
        f_min=50.0,
        f_max=8000.0,
        n_mels=20,
        center=center,
        norm="slaney",
        mel_scale="slaney",
    )
    waveform = noise(2, 5000)
    log_mel, frames = ours.log_mel(waveform)
    expected = (theirs(waveform) + LOG_OFFSET).log()
    torch.testing.assert_close(log_mel, expected, rtol=1e-4, atol=1e-4)
    assert frames.tolist() == [expected.shape[2]] * 2


def test_silence_is_the_log_of_float32s_epsilon():
    log_mel, _ = front_end().log_mel(torch.zeros(1, 1000))
    assert torch.allclose(log_mel, torch.tensor(math.log(np.finfo(np.float32).eps)))


@given(
    lengths=st.lists(st.integers(1, 700), min_size=1, max_size=4),
    extra=st.integers(0, 300),
    center=st.booleans(),
    hop=st.integers(8, 60),
    rubbish=st.sampled_from([0.0, 100.0, float("nan")]),
)
@settings(max_examples=60, deadline=None)
def test_a_clip_does_not_depend_on_its_batch(lengths, extra, center, hop, rubbish):
    module = front_end(**SMALL | {"center": center, "hop": hop})
    samples = max(lengths) + extra
    batch = torch.full((len(lengths), samples), rubbish)
    clips = [noise(length, seed=index) for index, length in enumerate(lengths)]
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    together, frames = module(batch, torch.tensor(lengths))
    assert together.shape == (len(lengths), 16, module.frames_of(samples))
    for row, clip, count in zip(together, clips, frames.tolist(), strict=True):
        alone, alone_frames = module(clip[None])
        assert count == alone_frames.item() == module.frames_of(len(clip)) == alone.shape[2]
        torch.testing.assert_close(row[:, :count], alone[0], rtol=1e-5, atol=1e-5)
        assert (row[:, count:] == 0).all()


def test_frames_past_the_end_are_the_datas_mean_and_not_log_mel_zero():
    normalised, frames = front_end(mean=-7.0, std=4.0)(torch.zeros(2, 4000), torch.tensor([4000, 1000]))
    silence = (math.log(LOG_OFFSET) + 7.0) / 4.0
    assert normalised[1, :, frames[1] :].abs().max() == 0
    assert torch.allclose(normalised[1, :, : frames[1]], torch.tensor(silence))


def test_frames_past_the_end_can_be_log_mel_zero():
    waveform, lengths = torch.zeros(2, 4000), torch.tensor([4000, 1000])
    normalised, frames = front_end(mean=-7.0, std=4.0, pad="zero", std_factor=2.0)(waveform, lengths)
    assert torch.allclose(normalised[1, :, frames[1] :], torch.tensor(7.0 / 8.0))
    inside, _ = front_end(mean=-7.0, std=4.0, std_factor=2.0)(waveform, lengths)
    assert torch.equal(normalised[0], inside[0])
    assert torch.equal(normalised[1, :, : frames[1]], inside[1, :, : frames[1]])


def test_std_factor_divides():
    waveform = noise(2, 4000)
    plain, _ = front_end()(waveform)
    half, _ = front_end(std_factor=2.0)(waveform)
    assert torch.equal(half, plain / 2)
    assert torch.equal(front_end(std_factor=2.0).log_mel(waveform)[0], front_end().log_mel(waveform)[0])


@pytest.mark.parametrize("center", [True, False])
def test_subtract_mean_removes_each_clips_own(center):
    # No band starts at 0 Hz, but a Hann window leaks an offset into those above it.
    module = front_end(subtract_mean=True, center=center, f_min=0.0)
    waveform, lengths = noise(2, 4000), torch.tensor([4000, 300])
    own = torch.stack([clip[:length].mean() for clip, length in zip(waveform, lengths, strict=True)])[:, None]  # [B, 1]
    expected, _ = front_end(center=center, f_min=0.0)(waveform - own, lengths)
    moved = waveform + torch.tensor([[0.5], [-0.3]])
    moved[1, 300:] = 9.0  # what lies past the end has no part in the mean
    torch.testing.assert_close(module(moved, lengths)[0], expected, rtol=1e-4, atol=1e-3)
    untouched, _ = front_end(center=center, f_min=0.0)(moved, lengths)
    assert (untouched - expected).abs().max() > 0.5


def test_m2d_at_32_khz():
    module = front_end(sample_rate=32000, window=800, hop=320, n_fft=800, f_max=16000.0, center=True)
    assert module.hop_seconds == 0.01
    assert module.samples_of(608) == 607 * 320
    spectrogram, frames = module(noise(1, module.samples_of(608)))
    assert spectrogram.shape == (1, 80, 608)
    assert frames.tolist() == [608]
    time = torch.arange(32000) / 32000
    tone = torch.stack([(2 * math.pi * pitch * time).sin() for pitch in (500.0, 12000.0)])  # [2, S]
    low, high = module(tone)[0].mean(dim=2).argmax(dim=1).tolist()
    assert low < 20 < 70 < high


@given(frames=st.integers(1, 200), hop=st.integers(8, 300), n_fft=st.integers(64, 400), center=st.booleans())
@settings(deadline=None, max_examples=100)
def test_samples_of_is_the_fewest_samples(frames, hop, n_fft, center):
    module = front_end(n_mels=8, window=64, hop=hop, n_fft=n_fft, center=center)
    samples = module.samples_of(frames)
    assert samples >= n_fft
    assume(frames >= module.frames_of(1))  # fewer cannot be had
    assert module.frames_of(samples) == frames
    if frames > module.frames_of(1):
        assert module.frames_of(samples - 1) == frames - 1
    assert module.log_mel(torch.zeros(1, samples))[0].shape[2] == frames


def test_samples_of_matpacs_crop():
    assert front_end().samples_of(608) == 97520
    assert front_end(center=True).samples_of(608) == 97120


def test_computes_in_float32_under_autocast_and_from_half():
    module, waveform = front_end(), noise(1, 4000)
    plain, _ = module(waveform)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, _ = module(waveform)
    assert cast.dtype == torch.float32
    assert torch.equal(plain, cast)
    assert module(waveform.half())[0].dtype == torch.float32


def test_saves_the_statistics_and_nothing_that_follows_from_settings():
    assert sorted(front_end(-1.0, 2.0).state_dict()) == ["mean", "std"]


def test_hop_seconds_and_rate():
    assert front_end().hop_seconds == 0.01
    assert front_end().sample_rate == 16000


@pytest.mark.gpu
@pytest.mark.parametrize("center", [True, False])
def test_same_on_the_gpu(center):
    module, waveform, lengths = front_end(center=center), noise(3, 8000), torch.tensor([8000, 3000, 100])
    on_cpu, frames = module(waveform, lengths)
    on_gpu, gpu_frames = module.cuda()(waveform.cuda(), lengths.cuda())
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-3, atol=1e-3)
    assert gpu_frames.tolist() == frames.tolist()
