"""Frames of clips of any length: they read as the padded array, and take the memory of the clips' own frames."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import soundfile
import torch

from ssl_wb.evaluation import frame_store
from ssl_wb.evaluation.embedding_cache import EmbeddingCache
from ssl_wb.evaluation.embeddings import embed_task, frame_counts
from ssl_wb.evaluation.frame_store import FrameStore, FrameWriter
from ssl_wb.tasks.task import load_task

LENGTHS = (3, 1, 7, 2)


@pytest.fixture(params=[10**6, 40], ids=["memory", "disk"])
def pair(request):
    """A store of four clips, and the padded array it stands for."""
    random = np.random.default_rng(0)
    padded = np.zeros((4, 7, 5), dtype=np.float32)
    writer = FrameWriter(4, budget=request.param)
    for clip in (1, 3, 0, 2):
        padded[clip, : LENGTHS[clip]] = random.standard_normal((LENGTHS[clip], 5))
        writer.add(clip, padded[clip, : LENGTHS[clip]])
    store = writer.finish()
    assert isinstance(store.frames, np.memmap) == (request.param == 40)
    return store, padded


def test_it_reads_as_the_padded_array(pair):
    store, padded = pair
    assert (store.shape, store.ndim, store.dtype, len(store)) == (padded.shape, 3, np.float32, 4)
    rows = np.array([2, 0, 0])
    keys = [0, -1, slice(None), slice(1, 3), rows, rows.tolist(), np.array([True, False, True, False]), np.int64(2)]
    keys += [
        (rows, slice(None, 3)),
        (1, slice(2)),
        (rows, slice(2, 5), slice(1, 3)),
        (slice(None), slice(None, None, 2)),
    ]
    keys += [(rows, 0), (0, 0, 0), (..., 0), (rows, rows), (slice(0, 2), -1)]
    for key in keys:
        np.testing.assert_array_equal(store[key], padded[key], err_msg=str(key))
    np.testing.assert_array_equal(np.asarray(store), padded)
    np.testing.assert_array_equal(np.stack(list(store)), padded)
    np.testing.assert_array_equal(store.clip(0), padded[0, :3])


def test_plugins_that_do_not_slice_first_get_the_whole_array(pair):
    store, padded = pair
    np.testing.assert_array_equal(store.sum(axis=1, dtype=np.float64), padded.sum(axis=1, dtype=np.float64))
    np.testing.assert_array_equal(store * 2 + 1, padded * 2 + 1)
    np.testing.assert_array_equal(store.astype(np.float64), padded)
    np.testing.assert_array_equal(np.abs(store), np.abs(padded))
    with pytest.raises(AttributeError):
        _ = store.no_such_thing


class Ticks(torch.nn.Module):
    """Gives one frame for each 100 samples: wide, as of a large model."""

    sample_rate = 16000

    def embed_frames(self, waveform, lengths=None):
        frames = torch.arange(waveform.shape[1] // 100)[None, :, None]
        inside = frames < (lengths // 100)[:, None, None]
        return (frames + 1.0) * inside * torch.ones(1, 1, 256)


@pytest.fixture
def task(tmp_path):
    """24 clips of 0.1 s and one of 40 s: padded to the longest 41 MB of frames, their own 4.1 and 0.4 MB."""
    rows = ["path,label"]
    for index in range(25):
        samples = 16000 * 40 if index == 24 else 1600
        soundfile.write(tmp_path / f"{index}.wav", np.full(samples, 0.1), 16000)
        rows.append(f"{index}.wav,{'ab'[index % 2]}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    return load_task(tmp_path / "t.csv")


def test_short_clips_are_not_padded_to_a_long_one(task):
    tracemalloc.start()
    embedded = embed_task(Ticks(), task, level="frames")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert embedded.shape == (25, 6400, 256)
    assert embedded.frames.nbytes < 7_500_000
    assert most < 25_000_000
    assert frame_counts(embedded).tolist() == [16] * 24 + [6400]
    np.testing.assert_array_equal(embedded[3][:17, 0], [*range(1, 17), 0])


def test_clips_of_one_batch_keep_their_own_frames_only(tmp_path):
    for index in range(4):
        soundfile.write(tmp_path / f"{index}.wav", np.full(1600 * (index + 1), 0.1), 16000)
    (tmp_path / "t.csv").write_text("path,label,split\n0.wav,a,train\n1.wav,b,train\n2.wav,a,val\n3.wav,b,test\n")
    embedded = embed_task(Ticks(), load_task(tmp_path / "t.csv"), level="frames")
    assert embedded.counts.tolist() == [16, 32, 48, 64]
    assert len(embedded.frames) == 160


def test_more_than_the_budget_is_on_disk(task, monkeypatch):
    plain = embed_task(Ticks(), task, level="frames")
    monkeypatch.setattr(frame_store.FrameWriter.__init__, "__defaults__", (1000,))
    kept = embed_task(Ticks(), task, level="frames")
    assert isinstance(kept.frames, np.memmap)
    assert not isinstance(plain.frames, np.memmap)
    np.testing.assert_array_equal(kept.frames, plain.frames)


def test_the_cache_keeps_frames_unpadded(task, tmp_path):
    cache = EmbeddingCache(tmp_path / "kept", torch.nn.Linear(2, 2))
    computed = embed_task(Ticks(), task, level="frames")
    first, was = cache.get(task.clips, "frames", lambda: computed)
    again, now = cache.get(task.clips, "frames", lambda: pytest.fail("computed twice"))
    assert (was, now) == (False, True)
    assert isinstance(again, FrameStore)
    assert isinstance(again.frames, np.memmap)
    np.testing.assert_array_equal(again[:, :20], first[:, :20])
    assert sum(path.stat().st_size for path in (tmp_path / "kept").iterdir()) < 7_500_000
    index = next((tmp_path / "kept").glob("*.index.npy"))
    index.unlink()  # without it the frames cannot be told apart
    assert cache.get(task.clips, "frames", lambda: computed) == (computed, False)
