from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchaudio.functional import resample

from ssl_wb.audio.decode import BETA, EXTENSIONS, LOWPASS_FILTER_WIDTH, ROLLOFF, AudioInfo, info, read, read_samples
from ssl_wb.errors import AudioError, ExitCode


def write(path, rate=16000, seconds=1.0, channels=1, seed=0, **kwargs):
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * rate), channels)).astype(np.float32)
    soundfile.write(path, noise, rate, **kwargs)
    return noise


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "aiff", "caf", "au", "w64"])
def test_reads_the_usual_formats(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    noise = write(path, seconds=2.0, channels=2)
    assert f".{ending}" in EXTENSIONS
    assert info(path).sample_rate == 16000
    assert info(path).channels == 2
    assert abs(info(path).seconds - 2.0) < 0.1
    waveform = read(path, 16000)
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    if ending not in {"ogg", "mp3"}:  # lossy
        np.testing.assert_allclose(waveform, noise.mean(axis=1), atol=1e-4)


def test_down_mix_is_the_mean_of_the_channels(tmp_path):
    stereo = np.stack([np.full(800, 0.5), np.full(800, -0.25)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 8000, subtype="FLOAT")
    np.testing.assert_array_equal(read(tmp_path / "a.wav", 8000), np.full(800, 0.125, dtype=np.float32))


def test_slice_is_the_files_own_samples(tmp_path):
    noise = write(tmp_path / "a.flac", subtype="PCM_16")
    part = read(tmp_path / "a.flac", 16000, start=0.25, duration=0.5)
    assert part.shape == (8000,)
    np.testing.assert_allclose(part, noise[4000:12000, 0], atol=1e-4)


def test_slice_is_cut_at_the_end_of_the_file(tmp_path):
    write(tmp_path / "a.wav")
    assert read(tmp_path / "a.wav", 16000, start=0.9, duration=5.0).shape == (1600,)
    assert read(tmp_path / "a.wav", 16000, start=0.9).shape == (1600,)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_is_torchaudios_kaiser_sinc(tmp_path, rate):
    noise = write(tmp_path / "a.wav", rate=rate, subtype="FLOAT")
    expected = resample(
        torch.from_numpy(noise[:, 0]),
        rate,
        16000,
        lowpass_filter_width=LOWPASS_FILTER_WIDTH,
        rolloff=ROLLOFF,
        resampling_method="sinc_interp_kaiser",
        beta=BETA,
    )
    assert (LOWPASS_FILTER_WIDTH, ROLLOFF, BETA) == (64, 0.9475937167399596, 14.769656459379492)
    np.testing.assert_allclose(read(tmp_path / "a.wav", 16000), expected.numpy(), atol=1e-4)
    assert info(tmp_path / "a.wav").samples_at(16000) == len(expected)


@pytest.fixture(scope="module")
def resampled(tmp_path_factory):
    """Files at several rates with their whole selves resampled to 16 kHz."""
    folder = tmp_path_factory.mktemp("rates")
    files = {}
    for rate in (8000, 11025, 22050, 44100, 48000, 44101):
        write(folder / f"{rate}.wav", rate=rate, seconds=0.7, subtype="FLOAT", seed=rate)
        files[rate] = (folder / f"{rate}.wav", read(folder / f"{rate}.wav", 16000))
    return files


@given(
    rate=st.sampled_from([8000, 11025, 22050, 44100, 48000, 44101]),
    first=st.integers(0, 11000),
    count=st.integers(1, 11000),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_resampled_slice_equals_the_slice_of_the_whole(resampled, rate, first, count):
    path, whole = resampled[rate]
    part = read_samples(path, 16000, first, count)
    np.testing.assert_allclose(part, whole[first : first + count], atol=2e-6)


def test_unusual_rate_keeps_the_pitch(tmp_path):
    tone = np.sin(2 * np.pi * 1000 * np.arange(44101) / 44101)
    soundfile.write(tmp_path / "a.wav", tone, 44101, subtype="FLOAT")
    waveform = read(tmp_path / "a.wav", 16000)
    expected = np.sin(2 * np.pi * 1000 * np.arange(len(waveform)) / 16000)
    assert abs(len(waveform) - 16000) <= 1
    np.testing.assert_allclose(waveform[500:-500], expected[500:-500], atol=0.01)


def test_samples_at_counts_as_the_resampler_does():
    assert AudioInfo(44100, 44100, 1).samples_at(16000) == 16000
    assert AudioInfo(44101, 44100, 1).samples_at(16000) == 16001
    assert AudioInfo(1, 48000, 1).samples_at(16000) == 1


def refused(path, **kwargs):
    with pytest.raises(AudioError) as caught:
        read(path, 16000, **kwargs)
    assert str(path) in caught.value.message
    assert caught.value.exit_code == ExitCode.USAGE
    assert "\n" not in caught.value.message
    return caught.value


def test_says_that_a_file_is_absent(tmp_path):
    error = refused(tmp_path / "nowhere.wav")
    assert "no such file" in error.message
    assert error.hint


def test_says_that_a_file_is_not_audio(tmp_path):
    (tmp_path / "a.wav").write_text("this is not audio")
    error = refused(tmp_path / "a.wav")
    assert "cannot be read as audio" in error.message
    assert "ffmpeg" in error.hint


def test_says_that_a_folder_is_not_a_file(tmp_path):
    assert "is a folder" in refused(tmp_path).message


def test_says_that_a_file_is_empty(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16000)
    assert "holds no samples" in refused(tmp_path / "a.wav").message
    with pytest.raises(AudioError, match="holds no samples"):
        info(tmp_path / "a.wav")


def test_says_that_a_start_lies_behind_the_end(tmp_path):
    write(tmp_path / "a.wav")
    error = refused(tmp_path / "a.wav", start=3.0)
    assert "1.000 s" in error.message
    assert "3.000 s" in error.message


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_samples_that_are_not_finite(tmp_path, bad):
    soundfile.write(tmp_path / "a.wav", np.array([0.0, bad, 0.0]), 16000, subtype="FLOAT")
    assert "NaN or infinite" in refused(tmp_path / "a.wav").message


def test_a_file_cut_short_is_an_audio_error_or_shorter(tmp_path):
    write(tmp_path / "a.flac", seconds=4.0)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 4])
    error = refused(tmp_path / "a.flac", start=3.0, duration=0.5)
    assert error.hint
