"""Tests of the source."""

from __future__ import annotations

from pathlib import Path

from ssl_wb.api import audio_info
from ssl_wb.scaffold.templates.source import NewPlugin, NewPluginOptions
from ssl_wb.testing import check_source


def test_it_keeps_the_contract() -> None:
    """Order, digest, numbers of clips: everything that the workbench asks of a source."""
    check_source(NewPlugin, {"clips": 10})


def test_clips_are_numbered_and_can_be_read(tmp_path: Path) -> None:
    """The order depends on the place alone, and every clip is audio at the wanted rate."""
    source = NewPlugin(NewPluginOptions(clips=10))
    clips = source.read("new-plugin:tones", folder=tmp_path / "clips", sample_rate=16000)
    assert [clip.id for clip in clips] == list(range(10))
    assert {clip.labels for clip in clips} == {("low",), ("high",)}
    for clip in clips:
        assert audio_info(clip.path).sample_rate == 16000
    assert source.planned_clips("new-plugin:tones") == len(clips)


def test_the_digest_follows_the_options(tmp_path: Path) -> None:
    """Equal options have an equal digest, others another one."""
    digests = [
        NewPlugin(NewPluginOptions(clips=clips))
        .read("new-plugin:tones", folder=tmp_path / str(number), sample_rate=16000)
        .digest
        for number, clips in enumerate((10, 10, 12))
    ]
    assert digests[0] == digests[1] != digests[2]
