"""Data workers that hang are gone within seconds, whichever way the training process ends."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import time

import psutil
import pytest

from ssl_wb.data import loader
from ssl_wb.data.clips import load_clips
from ssl_wb.data.dataset import CropDataset
from ssl_wb.data.loader import batches

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the tests fork")


@pytest.fixture
def dataset(make_folder, monkeypatch):
    """Crops of 8 kB; a worker hangs at its second batch, as on a network disk that is away."""
    crop, read = CropDataset.crop, []

    def hanging(self, epoch, index):
        read.append(index)
        if len(read) > 4 and os.getpid() != tests:
            time.sleep(600)
        return crop(self, epoch, index)

    tests = os.getpid()
    monkeypatch.setattr(CropDataset, "crop", hanging)
    return CropDataset(load_clips(make_folder(*[2000] * 8)), 8000, 2000, 0)


def stream_of(dataset):
    return batches(dataset, seed=0, first_sample=0, global_batch=4, steps=1000, workers=2)


def assert_gone(pids, seconds):
    until = time.monotonic() + seconds
    while left := [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]:
        assert time.monotonic() < until, f"still there: {left}"
        time.sleep(0.05)


def test_closing_the_stream_ends_workers_that_hang(dataset):
    before = set(multiprocessing.active_children())
    stream = stream_of(dataset)
    next(stream)
    workers = [one.pid for one in set(multiprocessing.active_children()) - before]
    assert len(workers) == 2
    time.sleep(0.2)  # until they hang
    stream.close()
    assert_gone(workers, 3.0)


def _train(dataset, pipe, way):
    """Load one batch and end by ``way``, with the stream kept open as the traceback of an error would."""
    global kept
    before = set(multiprocessing.active_children())
    kept = stream_of(dataset)
    next(kept)
    time.sleep(0.3)
    pipe.send([one.pid for one in set(multiprocessing.active_children()) - before])
    if way == "error":
        sys.stderr = io.StringIO()
        raise RuntimeError("a defect")
    if way != "end":
        os.kill(os.getpid(), getattr(signal, way))


@pytest.mark.parametrize("way", ["end", "error", "SIGTERM", "SIGKILL"])
def test_workers_that_hang_end_with_their_process(dataset, way):
    assert_ends(dataset, way)


def test_workers_on_a_full_pipe_end_with_a_process_that_was_killed(make_folder, monkeypatch):
    monkeypatch.setattr(loader, "free_shared_memory", lambda: 1000)  # 64 kB of pipe, and 32 kB in each batch
    assert_ends(CropDataset(load_clips(make_folder(*[2000] * 8)), 8000, 2000, 0), "SIGKILL")


def assert_ends(dataset, way):
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    training = context.Process(target=_train, args=(dataset, there, way))
    training.start()
    workers = here.recv()
    assert len(workers) == 2
    try:
        training.join(8.0)
        assert training.exitcode is not None, "the process waits for its workers"
        assert_gone(workers, 4.0)
    finally:
        for pid in (*workers, training.pid):
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
