"""A run folder has one writer."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from ssl_wb.errors import RunFolderError
from ssl_wb.runs.folder import RunFolder
from ssl_wb.runs.lock import SILENCE, RunLock

HOLD = "import sys, time; from pathlib import Path; from ssl_wb.runs.lock import RunLock; " + (
    "lock = RunLock(Path(sys.argv[1])); lock.take(); print('taken', flush=True); time.sleep(60)"
)


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    """A run folder."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.resolved.write_text("title = 'x'")
    return folder


@pytest.fixture
def writer(folder):
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder.lock.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "taken\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("way", [{"resume": True, "overwrite": False}, {"resume": False, "overwrite": True}])
def test_a_run_that_is_being_written_is_neither_resumed_nor_overwritten(folder, writer, way):
    for refuse in (folder.check, folder.prepare):
        with pytest.raises(RunFolderError, match=f"written here by process {writer.pid}") as caught:
            refuse(**way)
        assert f"kill {writer.pid}" in caught.value.hint
    assert folder.is_run()


def test_the_lock_of_a_killed_process_is_recognised(folder, writer):
    writer.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while psutil.Process(writer.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.01)
    folder.prepare(resume=True, overwrite=False)  # even before its parent has fetched the exit code
    owner = json.loads(folder.lock.path.read_text())
    assert owner["process"] == os.getpid()
    assert owner["host"] == socket.gethostname()
    folder.lock.release()
    assert [path.name for path in folder.path.glob("run.lock*")] == []


def test_another_process_with_the_number_of_a_dead_one_does_not_hold_its_lock(folder):
    owner = {"host": socket.gethostname(), "process": os.getpid(), "started": 1.0, "token": "x"}
    folder.lock.path.write_text(json.dumps(owner))
    folder.check(resume=True, overwrite=False)


def test_a_process_of_another_host_is_alive_while_its_heart_beats(folder):
    owner = {"host": "elsewhere", "process": 7, "started": time.time(), "token": "x"}
    folder.lock.path.write_text(json.dumps(owner))
    with pytest.raises(RunFolderError, match="by process 7 on elsewhere") as caught:
        folder.check(resume=True, overwrite=False)
    assert "120 seconds" in caught.value.hint
    silent = time.time() - SILENCE - 5
    os.utime(folder.lock.path, (silent, silent))
    folder.prepare(resume=True, overwrite=False)
    folder.lock.release()


def test_the_heart_beats_until_the_lock_is_released(folder, monkeypatch):
    monkeypatch.setattr("ssl_wb.runs.lock.BEAT", 0.05)
    lock = RunLock(folder.path / "run.lock")
    lock.take()
    os.utime(lock.path, (1.0, 1.0))
    deadline = time.monotonic() + 10
    while lock.path.stat().st_mtime == 1.0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert lock.path.stat().st_mtime > 1.0
    lock.release()
    assert not lock.path.exists()


def test_a_damaged_lock_does_not_stop_anybody(folder):
    folder.lock.path.write_text("{")
    os.utime(folder.lock.path, (1.0, 1.0))
    folder.prepare(resume=False, overwrite=True)
    assert not folder.is_run()
    folder.lock.release()


def test_a_lock_alone_does_not_make_a_folder_taken(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.lock.path.write_text(json.dumps({"host": socket.gethostname(), "process": 1, "started": 1.0, "token": "x"}))
    folder.prepare(resume=False, overwrite=False)
    folder.lock.release()
