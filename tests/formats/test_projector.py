"""Format ``projector``: tokens at a chosen rate, and a connector that can be trained."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import soundfile
import torch
from torch.testing import assert_close

from ssl_wb import load_encoder
from ssl_wb.cli.main import run as command
from ssl_wb.encoder.formats.base import ExportOptions
from ssl_wb.encoder.formats.conformance import load_file
from ssl_wb.workflows.export import export_encoder


@pytest.fixture(scope="module")
def folder(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("projector") / "tokens"
    export_encoder(exported("encoder"), folder, target="projector", options=ExportOptions(width=24))
    return folder


def test_tokens_are_stacked_frames_with_averaged_rows(folder, clips):
    waveform, lengths = clips
    model = load_file(folder / "connector.py").AudioTokens()
    tokens, own = model(waveform, lengths)
    frames = load_encoder(folder, embedding="frames").embed_frames(waveform, lengths)  # [2, 16, 32]
    assert model.token_rate == pytest.approx(3.125)  # 6.25 frames per second, two per token: at most 3.2
    assert own.sum(dim=1).tolist() == [8, 2]
    stacked = torch.cat([frames[1, 2], frames[1, 3]])
    expected = model.connector.proj(torch.nn.functional.layer_norm(stacked, (64,)))
    assert_close(tokens[1, 1], expected)
    assert not tokens[1, 2:].any()
    alone, _ = model(waveform[1:, : lengths[1]])
    assert_close(tokens[1:, :2], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("rate", "stack"), [(100.0, 1), (6.25, 1), (6.2, 2), (2.0, 4), (1.0, 7)])
def test_there_are_no_more_tokens_per_second_than_asked_for(rate, stack, exported, tmp_path):
    options = ExportOptions(frame_rate=rate)
    found = export_encoder(exported("encoder"), tmp_path / "out", target="projector", options=options)
    settings = json.loads((tmp_path / "out" / "connector.json").read_text())
    assert settings["stack"] == stack
    assert settings["width"] == 4096
    assert settings["tokens_per_second"] <= rate
    assert any("cannot be had" in note for note in found.notes) == (rate > 6.25)


def test_the_example_trains_the_connector_on_a_miniature_set(folder, tmp_path, monkeypatch):
    words = ("low", "middle", "high")
    lines = ["path,caption"]
    for number in range(12):
        pitch = 200 * 3 ** (number % 3)
        tone = 0.2 * np.sin(2 * np.pi * pitch * np.arange(8000 + 400 * number) / 16000)
        soundfile.write(tmp_path / f"{number}.wav", tone, 16000)
        lines.append(f"{number}.wav,a {words[number % 3]} tone")
    (tmp_path / "clips.csv").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "connector", raising=False)
    example = load_file(folder / "train_connector.py")
    monkeypatch.setattr(example.train, "__defaults__", (100, 12))
    losses = example.main([str(tmp_path / "clips.csv")])
    monkeypatch.delitem(sys.modules, "connector", raising=False)
    assert np.mean(losses[:5]) > 0.5
    assert np.mean(losses[-5:]) < 0.1
    # Saved, and loaded again: each clip's mean token is nearest to its own caption.
    model = load_file(folder / "connector.py").AudioTokens().eval()
    clips, captions = example.read_clips(tmp_path / "clips.csv", 16000)
    targets = example.embed_captions([f"a {word} tone" for word in words], None, 24)
    for clip, caption in zip(clips, captions, strict=True):
        with torch.no_grad():
            mean = model(clip[None])[0].mean(dim=1)
        assert words[int(torch.cosine_similarity(mean, targets).argmax())] in caption


@pytest.mark.parametrize("arguments", [["--frame-rate", "0"], ["--frame-rate", "-3"], ["--width", "0"]])
def test_a_rate_or_width_that_cannot_be_is_told(arguments, exported, tmp_path, capsys):
    source = str(exported("encoder"))
    assert command(["export", source, "--out", str(tmp_path / "x"), "--for", "projector", *arguments]) == 2
    assert f"{arguments[0]} {arguments[1]}: has to be above 0" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_only_the_connector_trains(folder):
    model = load_file(folder / "connector.py").AudioTokens().train()
    assert not model.encoder.training
    assert {name for name, value in model.named_parameters() if value.requires_grad} == {
        "connector.proj.weight",
        "connector.proj.bias",
    }
