"""Clips that cannot be read while a run trains: how many are tolerated, by all its processes together."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ssl_wb.data import dataset
from ssl_wb.data.dataset import UnreadableClips, UnreadableDataError

DISK = Path("disk")


def found(*indices):
    return [(index, f"{index:03d}.wav: broken") for index in indices]


def test_fewer_than_ten_are_tolerated_and_then_a_share():
    clips = UnreadableClips(DISK)
    clips.add(found(*range(9)), reads=9)  # a small data set
    with pytest.raises(UnreadableDataError, match="disk: 10 clips cannot be read") as caught:
        clips.add(found(9), reads=999)
    assert caught.value.exit_code == 5
    assert "unreadable.json" in caught.value.hint
    clips = UnreadableClips(DISK)
    clips.add(found(*range(10)), reads=1000)
    clips.add(found(*range(10)), reads=10)  # known ones again
    clips = UnreadableClips(DISK, max_bad=0.5)
    clips.add(found(*range(10)), reads=20)


def test_none_is_tolerated_where_none_may_be():
    with pytest.raises(UnreadableDataError, match=r"000\.wav"):
        UnreadableClips(DISK, max_bad=0.0).add(found(0), reads=10**6)


def test_those_before_a_resume_count():
    clips = UnreadableClips(DISK)
    clips.clips = dict(found(*range(9)))
    with pytest.raises(UnreadableDataError, match="10 clips"):
        clips.add(found(9), reads=100)


def test_processes_count_together_and_each_clip_is_named_once(monkeypatch, caplog):
    both = [UnreadableClips(DISK), UnreadableClips(DISK, speaks=False)]
    with caplog.at_level(logging.WARNING, logger="ssl_wb"):
        both[0].add(found(0, 1, 2, 3, 4), reads=1000)
        both[1].add(found(4, 5, 6), reads=1000)
        told = [one.fresh for one in both]
        monkeypatch.setattr(dataset, "gather_objects", lambda own: told)
        for one in both:
            one.share(1000)
    assert sorted(both[0].clips) == sorted(both[1].clips) == list(range(7))
    assert [record.message.split(": ")[1][:3] for record in caplog.records] == [f"{n:03d}" for n in range(7)]
    told = [found(7, 8), found(9)]
    for one in both:  # both end, with the same message
        one.fresh = []
        with pytest.raises(UnreadableDataError, match="10 clips"):
            one.share(100)
