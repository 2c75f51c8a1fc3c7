"""``embed``: a .npy file written clip by clip, going on after an interruption, and any layer."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from ssl_wb import load_encoder
from ssl_wb.cli.main import run as command
from ssl_wb.encoder import files
from ssl_wb.errors import AudioError
from ssl_wb.workflows.embed import embed

RUN = Path(__file__).parents[1] / "fixtures" / "run-0.1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for number in range(5):
        noise = 0.1 * np.random.default_rng(number).standard_normal(6000 + 3000 * number)
        soundfile.write(folder / f"{number}.wav", noise, 16000)
    (folder / "broken.wav").write_bytes(b"no audio")
    return folder


def wave(folder, name):
    return torch.from_numpy(soundfile.read(folder / name, dtype="float32")[0])


@pytest.mark.parametrize("level", ["clip", "frames"])
def test_npy_has_the_rows_of_npz_and_a_table(level, folder, tmp_path):
    for ending in ("npz", "npy"):
        words = ["embed", str(RUN), str(folder), "--out", str(tmp_path / f"x.{ending}"), "--level", level]
        assert command([*words, "--device", "cpu"]) == 0
    rows = np.load(tmp_path / "x.npy", mmap_mode="r")
    with np.load(tmp_path / "x.npz") as archive:
        np.testing.assert_array_equal(rows, archive["embedding"])
        with (tmp_path / "x.npy.csv").open(newline="") as lines:
            table = list(csv.DictReader(lines))
        assert [row["path"] for row in table] == list(archive["path"])
        np.testing.assert_allclose([float(row["time"]) for row in table], archive["time"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npy", "x.npy.csv", "x.npz"]


class Stopped(BaseException):
    """As a power failure."""


@pytest.mark.parametrize("level", ["clip", "frames"])
def test_an_interrupted_file_goes_on(level, folder, tmp_path, monkeypatch):
    out = tmp_path / "x.npy"
    whole = embed(str(RUN), [folder], tmp_path / "whole.npy", level=level, device="cpu")
    assert isinstance(whole.values, np.memmap)

    def stop(done, total):
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        embed(str(RUN), [folder], out, level=level, device="cpu", progress=stop)
    assert not out.exists()
    # Rows that came after the journal's last line are cut off.
    for part in tmp_path.glob(".x.npy.[rc]*.part"):
        part.write_bytes(part.read_bytes() + b"half a row")
    read, counts = files.read, []
    monkeypatch.setattr(files, "read", lambda path, *more, **named: counts.append(path) or read(path, *more, **named))
    again = embed(str(RUN), [folder], out, level=level, device="cpu", resume=True)
    assert len(counts) == 3
    np.testing.assert_array_equal(again.values, whole.values)
    assert (again.paths, again.clips, again.skipped) == (whole.paths, whole.clips, whole.skipped)
    assert (tmp_path / "x.npy.csv").read_text() == (tmp_path / "whole.npy.csv").read_text()
    assert not list(tmp_path.glob(".x.npy*"))


def test_going_on_with_other_settings_is_refused(folder, tmp_path, capsys):
    def stop(done, total):
        raise Stopped

    with pytest.raises(Stopped):
        embed(str(RUN), [folder], tmp_path / "x.npy", device="cpu", progress=stop)
    words = ["embed", str(RUN), str(folder), "--out", str(tmp_path / "x.npy"), "--device", "cpu", "--resume"]
    assert command([*words, "--level", "frames"]) == 2
    assert "other settings (level)" in capsys.readouterr().err
    next(tmp_path.glob(".x.npy.journal.part")).write_text("{")
    assert command(words) == 2
    assert "leave out --resume" in capsys.readouterr().err
    assert command(words[:-1]) == 0  # from the start
    assert command(["embed", str(RUN), str(folder), "--out", str(tmp_path / "x.npz"), "--resume"]) == 2
    assert "are written at the end" in capsys.readouterr().err


def test_a_journal_that_lost_the_end_of_its_last_line_goes_on(folder, tmp_path):
    def stop(done, total):
        if done == 3:
            raise Stopped

    whole = embed(str(RUN), [folder], tmp_path / "whole.npy", device="cpu")
    with pytest.raises(Stopped):
        embed(str(RUN), [folder], tmp_path / "x.npy", device="cpu", progress=stop)
    journal = next(tmp_path.glob(".x.npy.journal.part"))
    journal.write_bytes(journal.read_bytes()[:-9])
    again = embed(str(RUN), [folder], tmp_path / "x.npy", device="cpu", resume=True)
    np.testing.assert_array_equal(again.values, whole.values)


def test_any_layer(folder, tmp_path, capsys):
    encoder, clip = load_encoder(RUN), folder / "3.wav"
    layers = encoder.layers(wave(folder, "3.wav"))[0]  # [L, T, D]
    for layer in range(1, len(layers) + 1):
        found = embed(str(RUN), [clip], tmp_path / f"{layer}.npz", layer=layer, level="frames", device="cpu")
        np.testing.assert_array_equal(found.values, layers[layer - 1].numpy())
    words = ["embed", str(RUN), str(clip), "--out", str(tmp_path / "x.npz"), "--device", "cpu"]
    for layer in (0, len(layers) + 1):
        assert command([*words, "--layer", str(layer)]) == 2
        assert f"has layers 1 to {len(layers)}" in capsys.readouterr().err
    assert command([*words, "--layer", "1", "--embedding", "folded"]) == 2
    assert "leave one of them out" in capsys.readouterr().err


def test_a_file_without_a_readable_clip_is_not_written(folder, tmp_path):
    with pytest.raises(AudioError, match="none of the files could be read"):
        embed(str(RUN), [folder / "broken.wav"], tmp_path / "x.npy", device="cpu")
    assert not (tmp_path / "x.npy").exists()
