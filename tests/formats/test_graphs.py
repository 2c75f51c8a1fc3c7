"""Formats ``torch-export`` and ``onnx``: one graph for clips of every number and length."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from imported import layouts
from ssl_wb import load_encoder
from ssl_wb.encoder.formats import onnx as onnx_format
from ssl_wb.errors import DataError, UsageError
from ssl_wb.workflows.export import export_encoder

RATE = 16000
#: Samples from one to ten minutes: less than a frame, a frame, a patch and one sample more, a chunk, many chunks.
LENGTHS = (1, 399, 400, 800, 2560, 2561, 2800, 10_239, 10_480, 10_481, 3 * RATE + 7)
LONG = (60 * RATE, 600 * RATE)
no_onnx = importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnxscript") is None
needs_onnx = pytest.mark.skipif(no_onnx, reason="the extra `export` is not installed")


def noise(lengths):
    """Return noise ``[B, S]``, silent after each clip's end, and lengths ``[B]``."""
    waveform = 0.1 * torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor(lengths)
    return waveform.masked_fill(torch.arange(waveform.shape[1]) >= lengths[:, None], 0.0), lengths


def check(run, encoder, lengths, tolerance=1e-4):
    """Compare a graph with the encoder, and a mixed batch with its clips one by one."""
    with torch.no_grad():
        for length in lengths:
            waveform, counts = noise([length])
            embedding, frames = run(waveform, counts)
            assert_close(embedding, encoder.embed_clip(waveform), rtol=0, atol=tolerance, msg=f"{length} samples")
            assert_close(frames, encoder.embed_frames(waveform), rtol=0, atol=tolerance, msg=f"{length} samples")
        mixed = [20_000, 800, 1, 2561]
        waveform, counts = noise(mixed)
        together, _ = run(waveform, counts)
        for row, length in enumerate(mixed):
            alone, _ = run(waveform[row : row + 1, :length].contiguous(), counts[row : row + 1])
            assert_close(together[row : row + 1], alone, rtol=0, atol=1e-5)


@pytest.mark.torture
def test_torch_export_at_every_length(exported):
    folder = exported("torch-export")
    run = torch.export.load(folder / "model.pt2").module()
    check(run, load_encoder(folder), LENGTHS)


@pytest.mark.torture
def test_torch_export_of_long_clips(exported):
    folder = exported("torch-export")
    check(torch.export.load(folder / "model.pt2").module(), load_encoder(folder), LONG)


@pytest.mark.torture
@needs_onnx
def test_onnx_at_every_length(exported):
    folder = exported("onnx")
    check(onnx_format._Session(folder / "model.onnx"), load_encoder(folder), LENGTHS + LONG)


@pytest.mark.torture
@pytest.mark.timeout(1800)
@needs_onnx
@pytest.mark.parametrize("path", layouts(), ids=lambda path: "/".join(path.parts[-2:]))
def test_every_layout_exports_to_onnx(path, tmp_path):
    export_encoder(path, tmp_path / "out", target="onnx")  # compares two chunks and a bit, one third, one frame
    encoder, run = load_encoder(tmp_path / "out"), onnx_format._Session(tmp_path / "out" / "model.onnx")
    check(run, encoder, (encoder.sample_rate // 20, encoder.sample_rate, 7 * encoder.sample_rate))


@pytest.mark.torture
@needs_onnx
def test_the_graph_runs_where_there_is_no_torch(exported, tmp_path):
    """In a process that cannot import torch or ssl-wb, as in an environment with onnxruntime and numpy alone."""
    waveform, counts = noise([20_000, 800])
    np.savez(tmp_path / "in.npz", waveform=waveform.numpy(), lengths=counts.numpy())
    script = f"""
import sys
sys.modules["torch"] = sys.modules["ssl_wb"] = None
import numpy, onnxruntime
session = onnxruntime.InferenceSession({str(exported("onnx") / "model.onnx")!r})
assert session.get_modelmeta().custom_metadata_map["sample_rate"] == "16000"
found = session.run(None, dict(numpy.load({str(tmp_path / "in.npz")!r})))
numpy.save({str(tmp_path / "out.npy")!r}, found[0])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = load_encoder(exported("encoder")).embed_clip(waveform, counts)
    assert_close(torch.from_numpy(np.load(tmp_path / "out.npy")), expected, rtol=0, atol=1e-4)


def test_without_the_extra_export_says_what_to_install(exported, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "onnx" else find(name, *more))
    with pytest.raises(UsageError, match="this needs onnx") as caught:
        export_encoder(exported("encoder"), tmp_path / "out", target="onnx")
    assert "ssl-wb[export]" in caught.value.hint


def test_what_torch_cannot_export_is_told(exported, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("guards\nviolated")

    monkeypatch.setattr(torch.export, "export", fails)
    with pytest.raises(UsageError, match="cannot export this encoder"):
        export_encoder(exported("encoder"), tmp_path / "out", target="torch-export")
    assert not (tmp_path / "out").exists()


def test_a_graph_that_computes_something_else_is_not_written(exported, tmp_path, monkeypatch):
    from ssl_wb.encoder.formats import torch_export

    class Wrong:
        def module(self):
            return lambda waveform, lengths: (torch.zeros(3, 160), torch.zeros(1))

    monkeypatch.setattr(torch_export, "exported_program", lambda *_: None)
    monkeypatch.setattr(torch.export, "save", lambda *_: None)
    monkeypatch.setattr(torch.export, "load", lambda *_: Wrong())
    with pytest.raises(DataError, match="differ from the encoder's by 1 "):
        export_encoder(exported("encoder"), tmp_path / "out", target="torch-export")
    assert not (tmp_path / "out").exists()
