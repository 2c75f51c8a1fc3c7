"""How clips are cut: chunks short or padded, whole patches only, long clips cut, chunks that patches do not divide."""

from __future__ import annotations

import pytest

from ssl_wb.encoder.reading import ChunkPlan
from ssl_wb.plugin.importer import ClipReading


def columns(reading: ClipReading, frames: int, width: int = 16) -> list[tuple[int, int, int]]:
    return [(one.frame, one.columns, one.encoded) for one in ChunkPlan(reading, width).chunks_of(frames)]


def test_the_last_chunk_is_shorter_and_its_last_patch_padded():
    assert columns(ClipReading(64), 100) == [(0, 4, 4), (64, 3, 3)]
    assert columns(ClipReading(64), 64) == [(0, 4, 4)]
    assert columns(ClipReading(64), 1) == [(0, 1, 1)]


def test_chunks_can_be_padded_to_their_full_length():
    assert columns(ClipReading(64, padded_chunks=True), 100) == [(0, 4, 4), (64, 3, 4)]


def test_long_clips_can_be_cut_to_one_chunk():
    reading = ClipReading(64, padded_chunks=True, long_clips="cut")
    assert columns(reading, 1000) == [(0, 4, 4)]
    assert columns(reading, 20) == [(0, 2, 4)]


def test_an_incomplete_patch_can_be_dropped_but_not_the_only_one():
    reading = ClipReading(64, partial_patch="dropped")
    assert columns(reading, 100) == [(0, 4, 4), (64, 2, 2)]
    assert columns(reading, 70) == [(0, 4, 4)]
    assert columns(reading, 5) == [(0, 1, 1)]


def test_frames_after_the_last_whole_patch_of_a_chunk_are_lost_as_in_m2d_of_1001_frames():
    reading = ClipReading(1001)
    assert columns(reading, 1001) == [(0, 62, 62)]
    assert columns(reading, 2100) == [(0, 62, 62), (1001, 62, 62), (2002, 7, 7)]
    assert columns(reading, 1000) == [(0, 62, 62)]  # never more than the table has


def test_whole_clips_are_one_chunk():
    assert columns(ClipReading(None), 5000) == [(0, 313, 313)]


@pytest.mark.parametrize("frames", [1, 15, 16, 63, 64, 65, 200])
@pytest.mark.parametrize(
    "reading",
    [
        ClipReading(64),
        ClipReading(64, padded_chunks=True),
        ClipReading(64, partial_patch="dropped"),
        ClipReading(64, True, "padded", "cut"),
    ],
)
def test_columns_follow_each_other(reading, frames):
    plan = ChunkPlan(reading, 16)
    chunks = plan.chunks_of(frames)
    assert [one.first for one in chunks] == [sum(each.columns for each in chunks[:n]) for n in range(len(chunks))]
    assert [one.place for one in chunks] == [sum(each.encoded for each in chunks[:n]) for n in range(len(chunks))]
    assert plan.columns_of(frames) == sum(one.columns for one in chunks)
    assert all(one.columns <= one.encoded for one in chunks)
