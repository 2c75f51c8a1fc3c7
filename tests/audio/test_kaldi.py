"""The Kaldi filter bank: agreement with torchaudio and AudioMosaic, clips apart, lengths, statistics, encoder."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.testing import assert_close
from torchaudio.compliance.kaldi import fbank

from ssl_wb.api import LOG_OFFSET
from ssl_wb.data import statistics
from ssl_wb.data.clips import load_clips
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.pretext.crop import crop_frames
from ssl_wb.recipe.load import load_recipe
from ssl_wb_plugins.backbones.vit import Vit, VitOptions
from ssl_wb_plugins.front_ends.kaldi_fbank import KaldiFbank
from ssl_wb_plugins.front_ends.log_mel import LogMel

#: AudioMosaic on AudioSet.
AUDIOMOSAIC = {"n_fft": 512, "n_mels": 128, "f_min": 20.0, "subtract_mean": True, "std_factor": 2.0}
MEAN, STD = -4.2677393, 4.5689974
SMALL = {"n_mels": 16, "window": 64, "hop": 24, "n_fft": 128, "f_min": 200.0}


def kaldi(mean=MEAN, std=STD, **settings):
    return KaldiFbank(KaldiFbank.Options(**settings), mean, std)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (AUDIOMOSAIC, {"num_mel_bins": 128}),
        (AUDIOMOSAIC | {"preemphasis": 0.0}, {"num_mel_bins": 128, "preemphasis_coefficient": 0.0}),
        (
            {"n_fft": 400, "hop": 250, "n_mels": 40, "f_min": 50.0, "f_max": 7000.0},
            {
                "round_to_power_of_two": False,
                "frame_shift": 15.625,
                "num_mel_bins": 40,
                "low_freq": 50.0,
                "high_freq": 7000.0,
            },
        ),
    ],
)
def test_agrees_with_torchaudio(ours, theirs):
    waveform = noise(3, 9000) + 0.05
    log_mel, frames = kaldi(**ours).log_mel(waveform)
    if ours.get("subtract_mean"):
        waveform = waveform - waveform.mean(dim=1, keepdim=True)
    options = {"sample_frequency": 16000.0, "window_type": "hanning", "dither": 0.0} | theirs
    expected = torch.stack([fbank(clip[None], **options).T for clip in waveform])  # [B, F, T]
    # Per-frame means are removed anyway, so a clip's mean only moves the rounding of what is left of a low band.
    assert_close(log_mel, expected, rtol=1e-4, atol=2e-3)
    assert ((log_mel - expected).abs() > 1e-5 + 1e-4 * expected.abs()).double().mean() < 1e-3
    assert frames.tolist() == [expected.shape[2]] * 3


def test_agrees_with_the_published_audiomosaic_front_end(reference):
    golden = reference("tiny_audiomosaic_io")
    waveform = reference("tiny_matpac_io")["waveform"]  # the same for both
    module = kaldi(**AUDIOMOSAIC)
    log_mel, frames = module.log_mel(waveform)
    assert frames.tolist() == [728]
    # float32 leaves up to 1e-3 of a band 10 nepers below its frame's loudest (float64 lies as far off), and the mel
    # filters differ by the rounding of a logarithm. Measured: 7e-4 at most, 24 of 93184 values outside 1e-4 and 1e-5.
    expected = golden["fbank"].T  # [F, T]
    assert_close(log_mel[0], expected, rtol=1e-4, atol=2e-3)
    assert ((log_mel[0] - expected).abs() > 1e-5 + 1e-4 * expected.abs()).double().mean() < 1e-3
    normalised, _ = module(waveform)
    assert_close(normalised[0, :, :512], golden["input"].T, rtol=1e-4, atol=1e-5)


def test_silence_is_the_log_of_the_floor():
    log_mel, _ = kaldi(**AUDIOMOSAIC).log_mel(torch.full((1, 1000), 0.3))
    assert torch.allclose(log_mel, torch.tensor(math.log(LOG_OFFSET)))


@given(
    lengths=st.lists(st.integers(1, 700), min_size=1, max_size=4),
    extra=st.integers(0, 300),
    hop=st.integers(8, 80),
    subtract_mean=st.booleans(),
    pad=st.sampled_from(["mean", "zero"]),
    rubbish=st.sampled_from([0.0, 100.0, float("nan")]),
)
@settings(max_examples=60, deadline=None)
def test_a_clip_does_not_depend_on_its_batch(lengths, extra, hop, subtract_mean, pad, rubbish):
    module = kaldi(**SMALL | {"hop": hop, "subtract_mean": subtract_mean, "pad": pad})
    samples = max(lengths) + extra
    batch = torch.full((len(lengths), samples), rubbish)
    clips = [noise(length, seed=index) + 0.5 for index, length in enumerate(lengths)]
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    together, frames = module(batch, torch.tensor(lengths))
    assert together.shape == (len(lengths), 16, module.frames_of(samples))
    for row, clip, count in zip(together, clips, frames.tolist(), strict=True):
        alone, alone_frames = module(clip[None])
        assert count == alone_frames.item() == module.frames_of(len(clip)) == alone.shape[2]
        assert_close(row[:, :count], alone[0], rtol=1e-5, atol=1e-5)
        assert (row[:, count:] == (0.0 if pad == "mean" else torch.tensor(-MEAN) / STD)).all()


@given(frames=st.integers(1, 200), hop=st.integers(8, 300), window=st.integers(32, 128))
@settings(deadline=None, max_examples=50)
def test_frames_are_windows_long(frames, hop, window):
    module = kaldi(**SMALL | {"hop": hop, "window": window})
    samples = module.samples_of(frames)
    assert samples == window + (frames - 1) * hop
    assert module.frames_of(samples) == frames == module.log_mel(torch.zeros(1, samples))[0].shape[2]
    assert module.frames_of(samples - 1) == max(1, frames - 1)


def test_ten_seconds_are_998_frames_of_the_1024_of_a_crop():
    module = kaldi(**AUDIOMOSAIC)
    overrides = [
        "front_end.name=kaldi-fbank",
        "front_end.n_fft=512",
        "front_end.n_mels=128",
        "data.clip_seconds=10.24",
    ]
    assert crop_frames(load_recipe("quickstart", overrides), 16) == 1024
    assert module.frames_of(module.samples_of(1024)) == 1024
    assert module.frames_of(160_000) == 998


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"center": True}, "center = true is for log-mel"), ({"n_fft": 401}, "n_fft 401 is odd")],
)
def test_what_kaldi_cannot_do_is_refused(wrong, says):
    with pytest.raises(ValidationError, match=says):
        KaldiFbank.Options(**wrong)


def test_computes_in_float32_under_autocast_and_from_half():
    module, waveform = kaldi(**AUDIOMOSAIC), noise(1, 4000)
    plain, _ = module(waveform)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, _ = module(waveform)
    assert cast.dtype == torch.float32
    assert torch.equal(plain, cast)
    assert module(waveform.half())[0].dtype == torch.float32
    assert sorted(module.state_dict()) == ["mean", "std"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Six clips of noise with an offset, one shorter than a crop; the user's cache kept out of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    (tmp_path / "noise").mkdir()
    for index in range(6):
        wave = random.normal(0.2, 0.02 * (index + 1), 1500 if index == 0 else 6000)
        soundfile.write(tmp_path / "noise" / f"{index}.wav", wave, 16000, subtype="FLOAT")
    return tmp_path / "noise"


def test_statistics_are_of_kaldis_values(folder):
    (only := folder.parent / "one").mkdir()
    (folder / "0.wav").rename(only / "0.wav")
    wave = torch.from_numpy(soundfile.read(only / "0.wav", dtype="float32")[0])[None]  # [1, S]
    front_end = kaldi(0.0, 1.0, **AUDIOMOSAIC)
    log_mel, _ = front_end.log_mel(wave)
    found = statistics.measure(load_clips(only), front_end, 8000, crops=2)
    assert found.mean == pytest.approx(log_mel.mean().item(), abs=1e-4)
    assert found.std == pytest.approx(log_mel.std(correction=0).item(), abs=1e-4)


@pytest.mark.parametrize(
    ("name", "change", "anew"),
    [
        ("kaldi-fbank", {"preemphasis": 0.5}, True),
        ("kaldi-fbank", {"subtract_mean": True}, True),
        ("log-mel", {"subtract_mean": True}, True),
        ("kaldi-fbank", {"name": "log-mel"}, True),
        ("kaldi-fbank", {"std_factor": 2.0, "pad": "zero", "mean": -4.0, "std": 4.0}, False),
    ],
)
def test_statistics_are_measured_anew_where_a_setting_matters(folder, monkeypatch, name, change, anew):
    calls = []
    original = statistics._measured
    monkeypatch.setattr(statistics, "_measured", lambda *args: calls.append(1) or original(*args))
    kinds = {"log-mel": LogMel, "kaldi-fbank": KaldiFbank}
    for each in ({"name": name}, {"name": name, **change}):
        kind = kinds[each.pop("name")]
        statistics.measure(load_clips(folder), kind(kind.Options(n_mels=16, **each)), 2000, crops=4)
    assert len(calls) == 1 + anew


@pytest.mark.parametrize("pad", ["mean", "zero"])
def test_an_encoder_embeds_a_clip_alike_alone_and_in_a_batch(pad):
    torch.manual_seed(0)
    front_end = kaldi(**AUDIOMOSAIC | {"n_mels": 80, "pad": pad})
    encoder = FrozenEncoder(front_end, Vit(VitOptions(dim=48, depth=2, heads=4), 80), 64)
    waveform, lengths = noise(3, 20_000), [20_000, 7_000, 90]
    together = encoder.embed_frames(waveform, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        alone = encoder.embed_frames(waveform[row, :length])
        columns = encoder.columns_of(length)
        assert columns == alone.shape[1] == -(-front_end.frames_of(length) // 16)
        assert_close(together[row, :columns], alone[0], rtol=1e-4, atol=1e-5)
        assert not together[row, columns:].any()


@pytest.mark.gpu
def test_same_on_the_gpu():
    module, waveform, lengths = kaldi(**AUDIOMOSAIC), noise(3, 8000), torch.tensor([8000, 3000, 100])
    on_cpu, frames = module(waveform, lengths)
    on_gpu, gpu_frames = module.cuda()(waveform.cuda(), lengths.cuda())
    assert_close(on_gpu.cpu(), on_cpu, rtol=1e-3, atol=1e-3)
    assert gpu_frames.tolist() == frames.tolist()
