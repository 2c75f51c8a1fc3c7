"""Adapters for HEAR and X-ARES: those projects' own checkers where installed, and ours on the same points."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ssl_wb import load_encoder
from ssl_wb.cli.encoder_folders import Format
from ssl_wb.encoder import carried
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.external import load_external
from ssl_wb.encoder.formats import xares as xares_format
from ssl_wb.encoder.formats.conformance import hear_faults, load_file, xares_faults
from ssl_wb.encoder.formats.table import FORMATS
from ssl_wb.errors import DataError, UsageError
from ssl_wb.workflows.export import export_encoder


def test_hear_gives_the_embeddings_of_the_encoder(exported, clips):
    module = load_file(exported("hear") / "hear_encoder.py")
    model, encoder = module.load_model(), load_encoder(exported("encoder"))
    waveform, _ = clips
    assert_close(module.get_scene_embeddings(waveform, model), encoder.embed_clip(waveform), rtol=0, atol=0)
    frames, times = module.get_timestamp_embeddings(waveform, model)
    inside = torch.tensor(encoder.frame_times(waveform.shape[1])) < waveform.shape[1] / 16000
    assert_close(frames, encoder.embed_frames(waveform)[:, inside], rtol=0, atol=0)
    # A patch of 16 frames every 10 ms: its centre is 7.5 hops behind the centre of its first frame.
    assert_close(times[0, :2], torch.tensor([87.5, 247.5]))


def test_an_impulse_moves_the_hear_frame_of_its_time(exported):
    module = load_file(exported("hear") / "hear_encoder.py")
    model = module.load_model()
    silence = torch.zeros(1, 32_000)
    impulse = silence.clone()
    impulse[0, 16_000] = 1.0
    before, times = module.get_timestamp_embeddings(silence, model)
    after, _ = module.get_timestamp_embeddings(impulse, model)
    moved = (after - before).norm(dim=2)[0].argmax()
    assert abs(float(times[0, moved]) - 1000) <= 80


def test_chunks_of_an_odd_length_keep_regular_timestamps(tmp_path):
    class Odd(nn.Module):
        """An encoder whose frames are 160 ms apart, and 170 ms where a chunk ends."""

        sample_rate, clip_dim, dim, hop_seconds = 16000, 1, 1, 0.16

        def frame_times(self, samples):
            return [0.08 + 0.16 * place + 0.01 * (place // 50) for place in range(samples // 2560)]

        def embed_frames(self, audio):
            return torch.tensor(self.frame_times(audio.shape[1]))[None, :, None].expand(len(audio), -1, -1)

    module = load_file(Path(carried.__path__[0]) / "hear_encoder.py")
    model = nn.Module()
    model.encoder, model.sample_rate = Odd(), 16000
    frames, times = module.get_timestamp_embeddings(torch.zeros(1, 16000 * 600), model)
    assert float((times.double().diff() - 160).abs().max()) < 0.13  # float32 near 600,000 ms
    assert float((1000 * frames[:, :, 0] - times).abs().max()) <= 85  # never farther than half a frame and the jump


def test_hear_validator_itself(exported, monkeypatch, capsys):
    pytest.importorskip("tensorflow", reason="hear-validator imports tensorflow")
    validate = pytest.importorskip("hearvalidator.validate")
    monkeypatch.syspath_prepend(str(exported("hear")))
    monkeypatch.delitem(sys.modules, "hear_encoder", raising=False)
    importlib.invalidate_caches()
    validate.ValidateModel("hear_encoder", "", "cpu")()
    monkeypatch.delitem(sys.modules, "hear_encoder")
    assert "Checking get_scene_embeddings" in capsys.readouterr().out


def mutations_of_hear():
    """Yield what is changed of a HEAR module, and a word of the message."""

    def of(name, change):
        return lambda module: setattr(module, name, change(getattr(module, name)))

    def attribute(name, value):
        def change(load):
            def loaded(*arguments):
                model = load(*arguments)
                setattr(model, name, value)
                return model

            return loaded

        return of("load_model", change)

    def times(change):
        return of(
            "get_timestamp_embeddings",
            lambda embed: lambda audio, model: (embed(audio, model)[0], change(embed(audio, model)[1])),
        )

    yield lambda module: delattr(module, "load_model"), "no function load_model"
    yield of("load_model", lambda load: lambda *_: "model"), "no PyTorch module"
    yield attribute("sample_rate", 8000), "sample_rate"
    yield attribute("scene_embedding_size", 7), "get_scene_embeddings returns the shape"
    yield attribute("timestamp_embedding_size", 7.0), "not an int"
    yield of("get_scene_embeddings", lambda embed: lambda audio, model: embed(audio, model).double()), "float64"
    yield of("get_scene_embeddings", lambda embed: lambda audio, model: embed(audio, model)[:1]), "shape"
    yield of("get_scene_embeddings", lambda embed: lambda audio, model: embed(audio, model) / 0), "not finite"
    yield of("get_scene_embeddings", lambda embed: lambda audio, model: embed(audio)), "fails: TypeError"
    yield times(lambda ms: ms / 1000), "milliseconds are asked for"
    yield times(lambda ms: ms**1.01), "regular"
    yield times(lambda ms: ms + 1000), "not all in it"
    yield times(lambda ms: ms[:, 1:]), "one for each frame"
    yield of("get_timestamp_embeddings", lambda embed: lambda audio, model: embed(audio, model)[0]), "no pair"


@pytest.mark.parametrize(("change", "says"), list(mutations_of_hear()))
def test_a_mutated_hear_module_does_not_conform(exported, change, says):
    module = load_file(exported("hear") / "hear_encoder.py")
    assert hear_faults(module) == []
    change(module)
    assert any(says in fault for fault in hear_faults(module)), hear_faults(module)


def test_xares_gives_the_frames_of_the_encoder(exported, clips):
    module = load_file(exported("xares") / "xares_encoder.py")
    waveform, _ = clips
    frames = module.SslWbEncoder()(waveform)
    assert_close(frames, load_encoder(exported("encoder")).embed_frames(waveform), rtol=0, atol=0)


def test_the_check_of_xares_itself(exported):
    checker = pytest.importorskip("xares.audio_encoder_checker", reason="xares is not installed")
    encoder = load_file(exported("xares") / "xares_encoder.py").SslWbEncoder()
    assert checker.check_audio_encoder(encoder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda encoder: delattr(encoder, "output_dim"), "no attribute output_dim"),
        (lambda encoder: setattr(encoder, "output_dim", 3), "shape"),
        (lambda encoder: setattr(encoder, "hop_size_in_ms", 20.0), "frames come every 160 ms"),
        (lambda encoder: setattr(encoder, "forward", lambda audio: torch.zeros(2, 5)), "shape"),
        (lambda encoder: setattr(encoder, "forward", lambda audio: None.x), "fails: AttributeError"),
        (lambda encoder: setattr(type(encoder), "__name__", "SslWb"), "has to end in 'Encoder'"),
    ],
)
def test_a_mutated_xares_encoder_does_not_conform(exported, change, says):
    encoder = load_file(exported("xares") / "xares_encoder.py").SslWbEncoder()
    assert xares_faults(encoder) == []
    change(encoder)
    assert any(says in fault for fault in xares_faults(encoder)), xares_faults(encoder)
    assert xares_faults("encoder")


def test_exported_adapters_are_external_encoders_too(exported, clips):
    waveform, lengths = clips
    expected = load_encoder(exported("encoder")).embed_frames(waveform, lengths)
    hear = load_external(f"hear:{exported('hear') / 'hear_encoder.py'}")
    assert hear.hop_seconds == pytest.approx(0.16)
    xares = load_external(f"xares:{exported('xares') / 'xares_encoder.py'}")
    assert_close(xares.embed_frames(waveform, lengths), expected)


def test_a_rate_that_hear_does_not_have_is_refused(tmp_path, exported, monkeypatch):
    build = FrozenEncoder.__init__

    def at_8_khz(self, *arguments, **named):
        build(self, *arguments, **named)
        self.sample_rate = 8000

    monkeypatch.setattr(FrozenEncoder, "__init__", at_8_khz)
    with pytest.raises(UsageError, match="8000 Hz"):
        export_encoder(exported("encoder"), tmp_path / "out", target="hear")
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_where_an_adapter_does_not_conform(tmp_path, exported, monkeypatch):
    monkeypatch.setattr(xares_format, "xares_faults", lambda encoder: ["the shape is wrong"])
    with pytest.raises(DataError, match="the shape is wrong"):
        export_encoder(exported("encoder"), tmp_path / "out", target="xares")
    assert not (tmp_path / "out").exists()


def test_the_command_offers_every_format_of_the_table():
    assert [one.value for one in Format] == list(FORMATS)
    for one in FORMATS.values():
        assert one.summary
        assert one.runtime
