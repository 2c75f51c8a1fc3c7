"""What is told of clips before hours of work: files left out, counted twice, unreadable or odd."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
import soundfile

from ssl_wb.audio.clip import Clip
from ssl_wb.audio.decode import info, read
from ssl_wb.audio.inspect import find_oddity
from ssl_wb.data import checks
from ssl_wb.data.checks import check_sample, data_warnings, duplicate_warning
from ssl_wb.data.clips import load_clips

RATE = 16000
NOISE = 0.1 * np.random.default_rng(0).standard_normal(RATE)


def write(path, samples, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, **settings)
    return path


def test_recordings_in_formats_that_are_not_read_are_counted(tmp_path, caplog):
    write(tmp_path / "a.wav", NOISE)
    for name in ("b.m4a", "sub/c.M4A", "d.webm", "notes.txt", ".hidden.aac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert len(load_clips(tmp_path)) == 1
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "3 file(s) in formats that are not read are left out (2 .m4a, 1 .webm); convert them" in record.getMessage()


@pytest.mark.parametrize("target", ["", "sub", ".."])
def test_a_link_to_a_folder_that_contains_it_is_not_followed(tmp_path, caplog, target):
    folder = tmp_path / "data"
    write(folder / "sub" / "a.wav", NOISE)
    (folder / "sub" / "loop").symlink_to(folder / target, target_is_directory=True)
    assert [clip.path.name for clip in load_clips(folder)] == ["a.wav"]
    assert "1 link(s) to a folder that contains them are not followed, such as " in caplog.text


def test_links_to_each_other_end_and_other_links_are_followed(tmp_path):
    for name, other in ("ab", "ba"):
        write(tmp_path / name / f"{name}.wav", NOISE)
        (tmp_path / name / "other").symlink_to(tmp_path / other, target_is_directory=True)
    found = [clip.path.relative_to(tmp_path).as_posix() for clip in load_clips(tmp_path)]
    assert found == ["a/a.wav", "a/other/b.wav", "b/b.wav", "b/other/a.wav"]


def test_clips_that_are_there_twice_are_told(tmp_path):
    write(tmp_path / "a.wav", NOISE)
    write(tmp_path / "b.wav", NOISE)  # a copy is a file of its own
    assert duplicate_warning(load_clips(tmp_path)) is None
    (tmp_path / "c.wav").symlink_to("a.wav")
    os.link(tmp_path / "b.wav", tmp_path / "d.wav")
    assert "2 of 4 clips are there already" in duplicate_warning(load_clips(tmp_path))
    assert f"{tmp_path / 'a.wav'} and {tmp_path / 'c.wav'} are one file" in duplicate_warning(load_clips(tmp_path))
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,start,duration\na.wav,0,0.5\na.wav,0.5,0.5\na.wav,0,0.5\n")
    assert f"1 of 3 clips are there already ({tmp_path / 'a.wav'} is there twice)" in duplicate_warning(
        load_clips(manifest)
    )


@pytest.mark.parametrize(
    ("samples", "oddity"),
    [
        (np.stack([NOISE, -NOISE], axis=1), "cancelled"),
        (np.stack([NOISE, -NOISE + 1e-4 * NOISE[::-1]], axis=1), "cancelled"),
        (np.stack([NOISE, -0.9 * NOISE], axis=1), None),
        (np.stack([NOISE, NOISE[::-1]], axis=1), None),
        (32768 * NOISE, "too loud"),
        (20 * NOISE, None),
        (0 * NOISE, "silent"),
        (NOISE, None),
    ],
)
def test_oddities(tmp_path, samples, oddity):
    assert find_oddity(write(tmp_path / "a.wav", samples, subtype="FLOAT")) == oddity


def test_a_sample_is_spread_and_ends_after_its_time(tmp_path, monkeypatch):
    clip = Clip(write(tmp_path / "a.wav", NOISE))
    opened = []
    monkeypatch.setattr(checks, "find_oddity", lambda path, start, seconds: opened.append(start))
    clips = [Clip(clip.path, start=float(index)) for index in range(1000)]
    assert check_sample(clips, most=10, seconds=60).opened == 10
    assert sorted(opened) == [100.0 * index for index in range(10)]
    assert check_sample(clips, seconds=0).opened in (0, 1)
    assert check_sample([], seconds=60).opened == 0


def test_unreadable_and_odd_files_are_named(tmp_path):
    write(tmp_path / "a.wav", NOISE)
    write(tmp_path / "b.wav", np.stack([NOISE, -NOISE], axis=1))
    (tmp_path / "c.wav").write_bytes(b"RIFF")
    unreadable, cancelled = data_warnings(load_clips(tmp_path))
    assert f"1 of 3 files opened cannot be read, such as {tmp_path / 'c.wav'}: cannot be read as audio" in unreadable
    assert f"such as {tmp_path / 'b.wav'}, have channels that cancel each other" in cancelled


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf8_is_read(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    path.write_bytes(write(tmp_path / "a.wav", NOISE).read_bytes())
    assert info(path).frames == RATE
    np.testing.assert_array_equal(read(path, RATE), read(tmp_path / "a.wav", RATE))
