"""Checkpoints: what comes back, what is kept, and what damage, a full disk or a kill costs."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ssl_wb.errors import RunFolderError, WorkbenchError
from ssl_wb.runs import checkpoint as module
from ssl_wb.runs.checkpoint import find_checkpoint, load_checkpoint, load_newest, load_weights, save_checkpoint

resource = pytest.importorskip("resource", reason="POSIX")


def trained(steps: int):
    torch.manual_seed(0)
    model = nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    for _ in range(steps):
        model(torch.ones(1, 4)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def save(folder, step, best=False, keep=2):
    model, optimizer = trained(step)
    return save_checkpoint(folder, model=model, optimizer=optimizer, state={"step": step}, best=best, keep=keep)


def test_a_checkpoint_brings_weights_and_moments_back(tmp_path):
    save(tmp_path, 3)
    model, optimizer = trained(0)
    state = load_checkpoint(find_checkpoint(tmp_path), model=model, optimizer=optimizer)
    assert state == {"step": 3}
    expected, reference = trained(3)
    assert_close(model.weight, expected.weight)
    for key, entry in reference.state_dict()["state"].items():
        for name, value in entry.items():
            assert_close(optimizer.state_dict()["state"][key][name], value)


def test_pointers_pruning_and_no_half_checkpoints(tmp_path):
    save(tmp_path, 1, best=True)
    for step in (2, 3, 4):
        save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best",
        "last",
        "step-00000001",
        "step-00000003",
        "step-00000004",
    ]
    assert find_checkpoint(tmp_path).name == "step-00000004"
    assert find_checkpoint(tmp_path, "best").name == "step-00000001"
    assert find_checkpoint(tmp_path / "nowhere") is None


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_the_newest_sound_checkpoint_is_loaded_where_the_last_is_damaged(tmp_path, caplog, file, content):
    for step in (1, 2, 3):
        save(tmp_path, step, keep=3)
    path = tmp_path / "step-00000003" / file
    path.unlink() if content is None else path.write_bytes(content)
    model, optimizer = trained(0)
    assert load_newest(tmp_path, model=model, optimizer=optimizer)["step"] == 2
    assert_close(model.weight, trained(2)[0].weight)
    assert f"{path}: {'cannot be read' if content is None else f'has {len(content)} bytes'}" in caplog.text
    assert "going on from step-00000002" in caplog.text


def test_without_a_sound_checkpoint_there_is_one_error(tmp_path, caplog):
    assert load_newest(tmp_path, model=trained(0)[0], optimizer=trained(0)[1]) is None
    save(tmp_path, 1)
    (save(tmp_path, 2) / "model.safetensors").write_bytes(b"")
    (tmp_path / "last").write_text("step-00000007\n")
    model, optimizer = trained(0)
    assert load_newest(tmp_path, model=model, optimizer=optimizer)["step"] == 1
    assert "step-00000007', which is not there; going on from step-00000001" in caplog.text
    (tmp_path / "step-00000001" / "state.json").write_text("")
    with pytest.raises(RunFolderError, match="no other checkpoint is sound"):
        load_newest(tmp_path, model=model, optimizer=optimizer)


def test_a_damaged_checkpoint_is_told(tmp_path):
    path = save(tmp_path, 1)
    (path / "model.safetensors").write_bytes(b"garbage")
    model, optimizer = trained(0)
    with pytest.raises(RunFolderError, match="has 7 bytes"):
        load_checkpoint(path, model=model, optimizer=optimizer)
    (tmp_path / "last").write_text("step-00000009\n")
    with pytest.raises(RunFolderError, match="not there"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_one_changed_byte_is_found_before_a_resume(tmp_path, caplog, file):
    for step in (1, 2):
        save(tmp_path, step)
    path = tmp_path / "step-00000002" / file
    content = bytearray(path.read_bytes())
    content[-3] ^= 1  # a number; the file reads well
    path.write_bytes(content)
    model, optimizer = trained(0)
    assert load_newest(tmp_path, model=model, optimizer=optimizer)["step"] == 1
    assert f"{path}: its content is not what was written" in caplog.text


def test_weights_of_another_size_are_told_to_embed_and_evaluate(tmp_path):
    path = save(tmp_path, 1) / "model.safetensors"
    assert load_weights(path.parent)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(RunFolderError, match=r"has .* bytes; .* were written"):
        load_weights(path.parent)


def test_damaged_checksums_are_told_and_a_checkpoint_without_them_is_read(tmp_path):
    path, (model, optimizer) = save(tmp_path, 1), trained(0)
    for content in ("", "[]", "{}x", '{"state.json": 3}'):
        (path / "checksums.json").write_text(content)
        with pytest.raises(RunFolderError, match=r"checksums\.json: cannot be read"):
            load_checkpoint(path, model=model, optimizer=optimizer)
    (path / "checksums.json").unlink()  # as version 0.1 wrote it
    assert load_checkpoint(path, model=model, optimizer=optimizer) == {"step": 1}


def test_a_run_that_went_back_keeps_what_it_writes_and_not_what_it_left(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step, keep=3)
    save(tmp_path, 2, keep=1)  # 3 was damaged
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-00000002"]
    assert find_checkpoint(tmp_path).name == "step-00000002"


def assert_the_first_is_kept(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["last", "step-00000001"]
    model, optimizer = trained(0)
    assert load_newest(folder, model=model, optimizer=optimizer)["step"] == 1


def test_missing_space_is_told_before_anything_is_written(tmp_path, monkeypatch):
    save(tmp_path, 1)
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 300_000, 300_000))
        with pytest.raises(WorkbenchError, match=r"takes 1\.0 MB, 0\.3 MB are free, 0\.7 MB are missing") as caught:
            save(tmp_path, 2)
    assert "--resume; the last checkpoint, step-00000001, is as it was" in caught.value.hint
    assert_the_first_is_kept(tmp_path)


def test_a_write_that_fails_leaves_the_checkpoint_before(tmp_path):
    """Beyond RLIMIT_FSIZE a write fails in the middle of a file, as on a full disk."""
    save(tmp_path, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        with pytest.raises(WorkbenchError, match="a file is larger than the system allows") as caught:
            save(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "step-00000001, is as it was" in caught.value.hint
    assert_the_first_is_kept(tmp_path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fails_when_it_is_flushed_or_renamed_leaves_the_checkpoint_before(tmp_path, monkeypatch, step):
    save(tmp_path, 1)

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ssl_wb.files.os.fsync" if step == "fsync" else "pathlib.Path.replace", fail)
        with pytest.raises(WorkbenchError, match="could not be written: the disk is full"):
            save(tmp_path, 2)
    assert_the_first_is_kept(tmp_path)


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="mounts a file system")
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        monkeypatch.setattr(module, "BESIDES", 0)  # or the check before would refuse
        save(tmp_path, 1)
        (tmp_path / "filler").write_bytes(b"x" * (shutil.disk_usage(tmp_path).free - 4096))
        with pytest.raises(WorkbenchError, match=r"could not be written: .*the disk is full"):
            save(tmp_path, 2)
        (tmp_path / "filler").unlink()
        assert_the_first_is_kept(tmp_path)
        save(tmp_path, 2)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
