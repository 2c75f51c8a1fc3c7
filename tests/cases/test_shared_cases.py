"""Inputs that failed once: those of the folder that SSL_WB_CASES names, one line each."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import pytest

from ssl_wb.audio.decode import info, read
from ssl_wb.data.clips import load_clips
from ssl_wb.errors import AudioError

CASES = Path(os.environ.get("SSL_WB_CASES", ""))
pytestmark = pytest.mark.skipif(
    not os.environ.get("SSL_WB_CASES") or not CASES.is_dir(), reason="set SSL_WB_CASES to the folder of the cases"
)


@pytest.mark.parametrize("name", ["noise_first", "quiet_first"])
def test_vbr_mp3_without_xing(name):
    path = CASES / "vbr-mp3-without-xing" / f"{name}.mp3"
    assert info(path).seconds == pytest.approx(10.08, abs=0.01)
    assert len(read(path, 16000, start=8.0, duration=1.0)) == 16000


def test_ffmpeg_piped_flac():
    path = CASES / "ffmpeg-piped-flac" / "f0.flac"
    assert len(read(path, 16000)) == info(path).frames == 32000


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("header-sample-rate/rate1.wav", "1 samples per second"),
        ("header-sample-rate/rate2g.wav", "2147483647 samples per second"),
        ("absurd-float-sample/huge.wav", "full scale is 1"),
    ],
)
def test_absurd_headers_and_samples_are_named(case, said):
    with pytest.raises(AudioError, match=said) as caught:
        read(CASES / case, 16000)
    assert case in caught.value.message


@pytest.mark.parametrize(("name", "meant"), [("seg_offset", "start"), ("seg_end", "duration")])
def test_manifest_offset_or_end(tmp_path, caplog, name, meant):
    manifest = tmp_path / f"{name}.csv"
    shutil.copy(CASES / "manifest-offset-or-end" / manifest.name, manifest)
    lines = manifest.read_text(encoding="utf-8").splitlines()
    for line in lines[1:]:
        path = tmp_path / line.split(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with caplog.at_level(logging.WARNING, "ssl_wb"):
        load_clips(manifest)
    assert f"did you mean {meant!r}" in caplog.text
