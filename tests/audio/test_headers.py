"""Headers that tell no length, a guessed one or nonsense."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from ssl_wb.audio import decode
from ssl_wb.audio.decode import info, read
from ssl_wb.audio.lengths import frames_of_mp3, needs_counting
from ssl_wb.errors import AudioError

RATE = 16000


def waves(seconds=10.0, channels=1, rate=RATE):
    """A second of noise, then a quiet tone: bit rates differ much."""
    random = np.random.default_rng(0)
    time = np.arange(int(seconds * rate)) / rate
    wave = 0.05 * np.sin(2 * np.pi * 440 * time)
    wave[:rate] += 0.3 * random.standard_normal(rate)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def without_header_frame(content: bytes) -> bytes:
    """Cut the Xing or Info frame out of an MP3 file, as `ffmpeg -write_xing 0` leaves it out."""
    start, end, _ = frames_of_mp3(io.BytesIO(content))
    return content[start:end]


@pytest.fixture(params=[(16000, 1), (44100, 2), (8000, 1), (48000, 1)], ids=str)
def mp3(request, tmp_path):
    """A file of variable bit rate with its header frame, and the samples."""
    rate, channels = request.param
    path = tmp_path / "whole.mp3"
    soundfile.write(
        path, waves(channels=channels, rate=rate), rate, format="MP3", bitrate_mode="VARIABLE", compression_level=0.4
    )
    return path


def test_an_mp3_without_a_header_frame_has_all_of_its_samples(mp3):
    whole = mp3.read_bytes()
    bare = mp3.with_name("bare.mp3")
    bare.write_bytes(without_header_frame(whole))
    assert needs_counting(io.BytesIO(bare.read_bytes()))
    assert not needs_counting(io.BytesIO(whole))
    assert info(bare).seconds == pytest.approx(10.0, abs=0.2)  # the encoder's own delay, in whole frames
    rate = info(bare).sample_rate
    decoded = read(bare, rate)
    # The header frame tells the delay too: without it the same samples come later.
    original = read(mp3, rate)
    edge = rate // 4
    shift = np.argmax(np.correlate(decoded[: rate + edge], original[edge : rate - edge], "valid")) - edge
    assert 0 < shift < 0.2 * rate
    pair = decoded[shift:][: len(original)], original[: len(decoded) - shift]
    assert np.abs(pair[0] - pair[1]).max() < 1e-3
    late = read(bare, rate, start=8.0, duration=1.0)
    assert len(late) == rate
    assert np.abs(late - decoded[8 * rate : 9 * rate]).max() < 1e-5


def test_an_mp3_with_the_header_frame_of_its_first_part_is_counted(mp3):
    whole = mp3.read_bytes()
    joined = mp3.with_name("joined.mp3")
    joined.write_bytes(whole + without_header_frame(whole))
    assert info(joined).seconds == pytest.approx(20.0, abs=0.4)


def test_tags_before_and_behind_do_not_count(mp3):
    tagged = mp3.with_name("tagged.mp3")
    tag = b"ID3\x04\0\0\0\0\x01\x00" + bytes(128)
    tagged.write_bytes(tag + without_header_frame(mp3.read_bytes()) + b"TAG" + bytes(125))
    bare = mp3.with_name("bare.mp3")
    bare.write_bytes(without_header_frame(mp3.read_bytes()))
    assert info(tagged).frames == info(bare).frames


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"), [(16000, 1, "PCM_16"), (44100, 2, "PCM_24"), (96000, 1, "PCM_16")]
)
def test_a_flac_that_tells_no_length_is_read_whole(tmp_path, rate, channels, subtype):
    path = tmp_path / "piped.flac"
    wave = np.clip(waves(3.3, channels, rate), -0.9, 0.9)
    soundfile.write(path, wave, rate, subtype=subtype)
    expected = read(path, 16000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert soundfile.info(path).frames > 1 << 62
    assert info(path).seconds == pytest.approx(3.3, abs=1e-3)
    assert np.array_equal(read(path, 16000), expected)
    part = read(path, 16000, start=2.0, duration=0.5)
    assert np.abs(part - expected[32000:40000]).max() < 1e-6


def test_a_flac_that_tells_no_length_and_is_cut_is_named(tmp_path):
    path = tmp_path / "cut.flac"
    soundfile.write(path, waves(3.0), RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content[: len(content) * 4 // 5])
    with pytest.raises(AudioError, match=r"cut\.flac: its header tells no length"):
        read(path, RATE)


@pytest.mark.parametrize("rate", [1, 8, 99, 4_000_001, 2**31 - 1])
def test_a_rate_that_cannot_be_is_named(tmp_path, rate):
    path = tmp_path / "rate.wav"
    soundfile.write(path, waves(1.0), RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", rate)
    path.write_bytes(content)
    for use in (info, lambda path: read(path, RATE)):
        with pytest.raises(AudioError, match=rf"rate\.wav: its header says {rate} samples per second"):
            use(path)


def test_a_slice_of_an_mp3_has_the_samples_of_the_whole(mp3):
    rate = info(mp3).sample_rate
    whole = read(mp3, rate)
    for start in (0.1, 3.0, 8.0):
        first = round(start * rate)
        part = read(mp3, rate, start=start, duration=1.0)
        assert np.abs(part - whole[first : first + rate]).max() < 1e-5


def test_a_wav_from_a_pipe_is_read_whole(tmp_path):
    path = tmp_path / "piped.wav"
    soundfile.write(path, waves(2.0), RATE, subtype="PCM_16")
    expected = read(path, RATE)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4
    path.write_bytes(content)
    assert np.array_equal(read(path, RATE), expected)


def test_a_file_is_counted_once(tmp_path, monkeypatch):
    path = tmp_path / "bare.mp3"
    soundfile.write(path, waves(3.0), RATE, format="MP3", bitrate_mode="VARIABLE", compression_level=0.4)
    path.write_bytes(without_header_frame(path.read_bytes()))
    calls = []
    original = decode.frames_of_mp3
    monkeypatch.setattr(decode, "frames_of_mp3", lambda file: calls.append(1) or original(file))
    for _ in range(3):
        read(path, RATE, start=1.0, duration=0.5)
    assert len(calls) == 1


def test_a_sample_that_cannot_be_is_named(tmp_path):
    path = tmp_path / "huge.wav"
    wave = waves(1.0)
    wave[100] = 1e29
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"huge\.wav: has a sample of 1e\+29, and full scale is 1"):
        read(path, RATE)
