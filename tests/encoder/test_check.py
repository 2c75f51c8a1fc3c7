"""The passport: a sound encoder has no fault, and each known offender has exactly its own."""

from __future__ import annotations

import json
import math
import sys
from textwrap import dedent

import pytest
import torch
from torch.nn import functional as F

from ssl_wb.cli.main import run
from ssl_wb.encoder.check.passport import CHECKS, check_encoder
from ssl_wb.encoder.check.sounds import LEVEL, voice, voices
from ssl_wb.encoder.external.python_object import PythonEncoder
from ssl_wb.report.passport import passport_markdown

RATE, HOP = 8000, 400


class Bands:
    """A sound encoder: log power in eight bands, a frame every 50 ms; a clip is the mean over its own frames."""

    sample_rate = RATE
    hop_seconds = HOP / RATE

    def power(self, waveform):
        """Frames ``[B, T, 8]``; each from its own samples alone."""
        padded = F.pad(waveform, (0, -waveform.shape[1] % HOP)).unflatten(1, (-1, HOP))  # [B, T, hop]
        spectrum = torch.fft.rfft(padded).abs().square()[:, :, 1:]  # [B, T, 200], without the constant
        return (spectrum.unflatten(2, (8, -1)).mean(dim=3) + 1e-6).log()

    def embed_frames(self, waveform, lengths=None):
        return self.power(waveform)

    def embed_clip(self, waveform, lengths=None):
        frames = self.embed_frames(waveform)
        counts = -(-lengths // HOP)  # [B]
        own = torch.arange(frames.shape[1]) < counts[:, None]  # [B, T]
        return (frames * own[:, :, None]).sum(dim=1) / counts[:, None]


class EmbedsPadding(Bands):
    def embed_clip(self, waveform, lengths=None):
        return self.embed_frames(waveform).mean(dim=1)


class RefusesPadding(Bands):
    def embed_clip(self, waveform, lengths=None):
        assert bool((lengths == waveform.shape[1]).all())
        return super().embed_clip(waveform, lengths)


class NormalisesByBatch(Bands):
    def embed_clip(self, waveform, lengths=None):
        clips = super().embed_clip(waveform, lengths)
        return clips - clips.mean(dim=0) / 2


class SortsTheBatch(Bands):
    def embed_clip(self, waveform, lengths=None):
        clips = super().embed_clip(waveform, lengths)
        return clips[clips[:, 0].argsort()]


class Random(Bands):
    def embed_clip(self, waveform, lengths=None):
        clips = super().embed_clip(waveform, lengths)
        return clips + torch.randn_like(clips) / 10


class Late(Bands):
    def embed_frames(self, waveform, lengths=None):
        frames = self.power(waveform)
        return frames.roll(6, dims=1) if frames.shape[1] > 200 else frames  # 300 ms, in long clips only


class Constant(Bands):
    def embed_clip(self, waveform, lengths=None):
        return torch.ones(len(waveform), 8)


class LogOfZero(Bands):
    def power(self, waveform):
        return (super().power(waveform).exp() - 1e-6).log()


class Short(Bands):
    def embed_clip(self, waveform, lengths=None):
        if waveform.shape[1] < RATE // 10:
            raise ValueError("too short for my kernel")
        return super().embed_clip(waveform, lengths)


class FirstFiveSeconds(Bands):
    def power(self, waveform):
        centred = waveform - waveform.mean(dim=1, keepdim=True)  # of all of it, as EAT does
        return super().power(centred[:, : 5 * RATE])

    def embed_clip(self, waveform, lengths=None):
        return super().embed_clip(waveform, lengths.clamp(max=5 * RATE))


class NoHalf(Bands):
    def embed_clip(self, waveform, lengths=None):
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("no kernel in bf16")
        return super().embed_clip(waveform, lengths)


class DriftingFrames(Bands):
    hop_seconds = 0.06  # it says so; frames come every 50 ms


def passport(kind):
    torch.manual_seed(0)
    return check_encoder(PythonEncoder("theirs", kind()), "theirs", longest=12.0)


def found(kind, verdict="fault"):
    return {row.check for row in passport(kind).rows if row.verdict == verdict}


def test_a_sound_encoder_has_no_fault_and_its_dependences_are_notes():
    result = passport(Bands)
    assert len(result.rows) == len(CHECKS)
    assert result.faults == 0
    rows = {row.check: row for row in result.rows}
    assert {name for name, row in rows.items() if row.verdict == "note"} == {
        "1 s of silence at the end",
        "20 dB quieter",
    }
    # Log power of a sound 20 dB quieter lies 4.6 lower in each of the eight bands, where the noise floor is far below.
    spread = rows["different clips"].figures["spread"]
    assert rows["20 dB quieter"].change.relative == pytest.approx(math.log(100) * math.sqrt(8) / spread, rel=0.15)
    assert abs(rows["a burst moves its own frame"].figures["median_seconds"]) <= 0.025
    assert rows["frames cover the clip"].figures["frames"] == 80
    by_length = rows["speed, one clip, cpu"].figures["by_length"]
    assert [one["seconds"] for one in by_length] == [1.0, 10.0, 12.0]
    assert all(one["times_real_time"] > 0 for one in by_length)


@pytest.mark.parametrize(
    ("kind", "faults"),
    [
        (EmbedsPadding, {"padding, lengths told"}),
        (NormalisesByBatch, {"other clips in its batch", "padding, lengths told"}),
        (Late, {"a burst moves its own frame"}),
        (LogOfZero, {"silence", "an impulse", "padding, lengths told"}),
        (Short, {"50 ms"}),
    ],
)
def test_an_offender_has_its_own_fault(kind, faults):
    assert found(kind) == faults


def test_an_encoder_that_sorts_draws_or_sees_nothing():
    assert "order of the batch" not in found(NormalisesByBatch)
    assert "other clips in its batch" in found(SortsTheBatch)
    assert "the same clip again" in found(Random)
    assert "different clips" in found(Constant)


def test_what_is_no_fault_but_has_to_be_known():
    assert "padding, lengths told" in found(RefusesPadding, "note")
    assert "bf16 (autocast)" in found(NoHalf, "note")
    assert "a burst moves its own frame" in found(DriftingFrames, "note") | found(DriftingFrames)
    assert "frames cover the clip" in found(DriftingFrames, "note")
    (row,) = (row for row in passport(FirstFiveSeconds).rows if row.check == "end of 12 s")
    assert row.verdict == "note"
    assert row.figures["read_seconds"] == pytest.approx(5.0, abs=0.3)


def test_a_check_that_raises_is_a_row(monkeypatch):
    def broken(self, waveform, lengths=None):
        raise ValueError("no frames today")

    monkeypatch.setattr(Bands, "embed_frames", broken)
    monkeypatch.setattr(Bands, "embed_clip", lambda self, waveform, lengths: self.power(waveform).mean(dim=1))
    rows = {row.check: row for row in passport(Bands).rows}
    assert rows["silence"].verdict == "fault"
    assert "no frames today" in rows["silence"].measured
    assert "fails" in rows["a burst at t has to move the frame at t most"].measured


def test_the_sounds_are_the_same_at_every_rate():
    low, high = voice(1.0, 8000, 3), voice(1.0, 48000, 3)
    torch.testing.assert_close(high[::6], low, rtol=0, atol=1e-4)
    clips = voices(2.0, 16000)
    assert clips.shape == (4, 32000)
    assert clips.square().mean().sqrt() == pytest.approx(LEVEL, rel=0.05)
    assert torch.corrcoef(clips).triu(1).abs().max() < 0.3


MODULE = """
    import torch

    class Loudness:
        sample_rate = 8000
        leaks = False

        def embed_frames(self, waveform, lengths=None):
            return waveform[:, : max(80, waveform.shape[1] // 80 * 80)].unfold(1, 80, 80).square().mean(2)[:, :, None]

        def embed_clip(self, waveform, lengths):
            power = waveform.square().sum(1) / lengths
            return torch.stack([power, power.sqrt() + (power.mean() if self.leaks else 0)], dim=1)

    class Leaking(Loudness):
        leaks = True

    def sound():
        return Loudness()

    def leaking():
        return Leaking()
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "loudness_to_check.py"
    path.write_text(dedent(MODULE))
    return path


def test_the_command(module, capsys):
    assert run(["check", f"python:{module}:leaking", "--longest", "12", "--json"]) == 1
    captured = capsys.readouterr()
    content = json.loads(captured.out)
    faults = {row["check"] for row in content["rows"] if row["verdict"] == "fault"}
    assert "other clips in its batch" in faults
    assert content["faults"] == len(faults)
    assert f"{len(faults)} fault" in captured.err
    (row,) = (row for row in content["rows"] if row["check"] == "other clips in its batch")
    assert row["change"]["relative"] > 0.001


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--longest", "3"], "12 to 7200"),
        (["--embedding", "folded"], "leave it out for external encoders"),
        (["--audio", "nowhere"], "nowhere"),
    ],
)
def test_the_command_refuses(module, capsys, words, text):
    assert run(["check", f"python:{module}:sound", *words]) == 2
    assert text in capsys.readouterr().err


def test_given_clips_and_markdown(module, tmp_path, capsys):
    import soundfile

    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", voice(1.5, 8000, number).numpy() * (number + 1) / 3, 8000)
    soundfile.write(tmp_path / "short.wav", voice(0.2, 8000, 0).numpy(), 8000)
    assert run(["check", f"python:{module}:sound", "--audio", str(tmp_path), "--longest", "12", "--markdown"]) in (0, 1)
    text = capsys.readouterr().out
    assert "checked with 3 of 1.5 s, given" in text
    assert text.count("\n| ") == len(CHECKS) + 2  # heading and the line below it
    assert run(["check", f"python:{module}:sound", "--audio", str(tmp_path / "short.wav"), "--longest", "12"]) == 2
    assert "a check needs two" in capsys.readouterr().err


@pytest.mark.gpu
def test_devices_are_compared_where_there_are_two():
    from ssl_wb.encoder.check.invariance import other_device
    from ssl_wb.encoder.check.subject import Subject

    class Module(torch.nn.Module, Bands):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(8))

        def embed_clip(self, waveform, lengths=None):
            return self.power(waveform.to(self.weight.device)).mean(dim=1) * self.weight

    assert other_device(Subject(Module(), voices(4.0, RATE), 12.0)).verdict == "ok"


def test_markdown_escapes_bars():
    text = passport_markdown(passport(Bands))
    assert text.startswith("## What `theirs` depends on")
