"""What is checked before hours of work: the device, and where the output goes."""

from __future__ import annotations

import pytest
import torch

from ssl_wb.cli.main import run as ssl_wb
from ssl_wb.files import why_not_writable
from ssl_wb.runs.device import named_device


@pytest.mark.parametrize(
    "command", [["embed", "run", "audio", "--out", "o.npz"], ["evaluate", "run", "--task", "t.csv"]]
)
@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta", *([] if torch.cuda.is_available() else ["cuda"])])
def test_a_device_that_is_not_there_is_a_usage_error(command, device, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert ssl_wb([*command, "--device", device]) == 2
    err = capsys.readouterr().err
    assert f"device '{device}': no such device here" in err
    assert "there are: cpu" in err


def test_devices_that_are_there():
    assert named_device("cpu") == torch.device("cpu")
    assert named_device(None).type in ("cpu", "cuda")


@pytest.fixture
def unwritable(tmp_path, monkeypatch):
    """A folder that refuses files, also to root."""
    import pathlib

    folder, touch = tmp_path / "shut", pathlib.Path.touch
    folder.mkdir()

    def refuse(path, *args, **kwargs):
        if folder in path.parents:
            raise OSError(30, "Read-only file system")
        touch(path, *args, **kwargs)

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    return folder


@pytest.mark.parametrize("below", ["o.npz", "new/folder/o.npz"])
def test_embed_tries_its_output_before_a_model_is_loaded(unwritable, below, capsys):
    assert ssl_wb(["embed", "no-such-run", "no-such-audio", "--out", str(unwritable / below)]) == 2
    err = capsys.readouterr().err
    assert "cannot be written" in err
    assert "Read-only file system" in err
    assert list(unwritable.iterdir()) == []


def test_train_tries_its_run_folder_first(unwritable, capsys):
    assert ssl_wb(["train", "no-such-recipe", "--out", str(unwritable / "run")]) == 2
    assert "the run folder cannot be written" in capsys.readouterr().err


def test_a_file_in_place_of_a_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "is no folder" in why_not_writable(tmp_path / "file" / "below")
    assert why_not_writable(tmp_path / "new" / "below") == ""
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert ssl_wb(["embed", "run", "audio", "--out", str(tmp_path / "file" / "o.npz")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "no-such-run", "--task", "t.csv", "--chart", "file/below"],
        ["import", "no-such-file.pt", "--out", "file/below/encoder"],
        ["export", "no-such-run", "--out", "file/below/run"],
    ],
)
def test_other_outputs_are_tried_before_what_they_are_made_of(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert ssl_wb(words) == 2
    err = capsys.readouterr().err
    assert "file is no folder" in err or "file is a file" in err
    assert "no-such" not in err
