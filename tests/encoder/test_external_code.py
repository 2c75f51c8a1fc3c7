"""External code that prints, exits, stays in training mode or gives frames of zeros."""

from __future__ import annotations

import logging

import pytest
import torch

from ssl_wb.encoder.external import load_external
from ssl_wb.errors import DataError, UsageError
from ssl_wb.evaluation.embeddings import embed_task
from ssl_wb.tasks.task import load_task
from task_fakes import labelled, write_manifest

CODE = """
import sys, torch
from torch import nn
print("Loading weights ... done")

class Plain:
    sample_rate = 16000
    def embed_frames(self, w, l=None):
        return torch.stack([(w.unfold(1, 160, 160).abs().mean(2) - 0.02 * k).relu() for k in range(8)], -1)
    def embed_clip(self, w, l=None):
        print("embedding")
        return self.embed_frames(w).mean(1)
    def layers(self, w, l=None):
        return self.embed_frames(w)[:, None]

class Dropout(Plain):
    def __init__(self):
        self.net = nn.Dropout(0.5)
    def embed_clip(self, w, l=None):
        return self.net(self.embed_frames(w).mean(1))

class Norm(Plain):
    def __init__(self):
        self.net = nn.BatchNorm1d(8, track_running_stats=False)
    def embed_clip(self, w, l=None):
        return self.net(self.embed_frames(w).transpose(1, 2)).mean(2) + self.embed_frames(w).mean(1)

class Short(Plain):
    def embed_clip(self, w, l=None):
        if w.shape[1] < 8000:
            sys.exit("audio must be at least 0.5 s")
        return super().embed_clip(w)

def exits():
    sys.exit(3)
"""


@pytest.fixture
def load(tmp_path):
    (tmp_path / "code.py").write_text(CODE)
    return lambda name: load_external(f"python:{tmp_path / 'code.py'}:{name}")


def test_what_external_code_prints_goes_to_stderr(load, capsys):
    load("Plain").embed_clip(torch.zeros(1, 16000))
    out, err = capsys.readouterr()
    assert out == ""
    assert "Loading weights" in err
    assert "embedding" in err


def test_sys_exit_inside_it_is_one_message(load):
    with pytest.raises(UsageError, match=r"exits\(\) fails: SystemExit: 3"):
        load("exits")
    with pytest.raises(DataError, match=r"SystemExit: audio must be at least 0\.5 s"):
        load("Short").embed_clip(torch.zeros(1, 4000))


@pytest.mark.parametrize(
    ("name", "says"), [("Dropout", "training mode"), ("Norm", "other clips of its batch"), ("Plain", "")]
)
def test_embeddings_that_change_are_told(load, name, says, caplog):
    with caplog.at_level(logging.WARNING, "ssl_wb"):
        load(name)
    assert (says in caplog.text) if says else caplog.text == ""


def test_frames_of_zeros_are_no_padding(load):
    encoder = load("Plain")
    sound = torch.cat([torch.ones(1, 8000), torch.zeros(1, 8000)], dim=1)  # its second half is silent
    waveform = torch.cat([sound, torch.ones(1, 16000)])
    for frames in (
        encoder.embed_frames(waveform, torch.tensor([16000, 4000])),
        encoder.layers(waveform, torch.tensor([16000, 4000]))[:, -1],
    ):
        assert (frames != 0).any(dim=-1).sum(dim=1).tolist() == [100, 25]
        assert float(frames[0, 50:].abs().max()) < 1e-30


def test_an_error_names_the_clip(load, tmp_path):
    import numpy as np
    import soundfile

    from ssl_wb.encoder.files import embed_clips, gather_clips

    soundfile.write(tmp_path / "short.wav", np.zeros(4000), 16000)
    with pytest.raises(DataError, match=r"short\.wav.*SystemExit"):
        embed_clips(load("Short"), gather_clips([tmp_path / "short.wav"]))


def test_an_error_in_an_evaluation_names_the_clip_and_how_many_shared_its_batch(load, tmp_path):
    task = load_task(write_manifest(tmp_path / "clips", labelled(40)))  # of 0.2 s
    with pytest.raises(DataError, match=r"\d{3}\.wav and 39 more clips of its batch: .*SystemExit: audio must be"):
        embed_task(load("Short"), task)
