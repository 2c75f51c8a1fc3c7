"""One failing encoder, clip or evaluator does not throw away the rows that are done."""

from __future__ import annotations

import json

import pytest

from ssl_wb.cli.main import run as ssl_wb
from task_fakes import Deaf, Spectrum, labelled, write_manifest

CODE = """
import torch
class Ok:
    sample_rate = 16000
    def embed_frames(self, w, l=None): return w.unfold(1, 400, 160).abs().log1p()[..., :8]
    def embed_clip(self, w, l=None): return self.embed_frames(w).mean(1)
def good(): return Ok()
def bad(): 1 / 0
"""
QUICK = ["--evaluator", "knn", "--seeds", "1", "--no-baselines", "--no-cache", "--json"]


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ssl_wb.encoder.load.load_encoder",
        lambda run, **options: Deaf() if options.get("untrained") else Spectrum(),
    )
    (tmp_path / "code.py").write_text(CODE)
    return write_manifest(tmp_path / "clips", labelled(60, classes="abc", fold=lambda n: str(n // 3 % 3)))


def encoders_of(out: str) -> list[tuple[str, str, str]]:
    return [(row["encoder"].rpartition(":")[2], row["task"], row["evaluator"]) for row in json.loads(out)]


@pytest.mark.parametrize("order", [("good", "bad"), ("bad", "good")])
def test_an_encoder_that_fails_leaves_the_rows_of_others(manifest, tmp_path, capsys, order):
    sources = [f"python:{tmp_path / 'code.py'}:{name}" for name in order]
    assert ssl_wb(["evaluate", *sources, "--task", str(manifest), *QUICK]) == 2
    out, err = capsys.readouterr()
    assert encoders_of(out) == [("good", manifest.stem, "knn")]
    assert "ZeroDivisionError" in err
    assert "is left out" in err


def test_a_broken_clip_costs_its_task_only(manifest, tmp_path, capsys):
    broken = write_manifest(tmp_path / "others", labelled(60, classes="abc", fold=lambda n: str(n // 3 % 3)))
    broken = broken.rename(broken.with_name("broken.csv"))
    next(iter(sorted((tmp_path / "others").rglob("*.wav")))).write_bytes(b"RIFF nothing")
    source = f"python:{tmp_path / 'code.py'}:good"
    assert ssl_wb(["evaluate", source, "--task", str(broken), "--task", str(manifest), *QUICK]) == 2
    out, err = capsys.readouterr()
    assert encoders_of(out) == [("good", manifest.stem, "knn")]
    assert "broken is left out" in err


def test_an_only_encoder_that_fails_is_an_error_as_before(manifest, tmp_path, capsys):
    source = f"python:{tmp_path / 'code.py'}:bad"
    assert ssl_wb(["evaluate", source, "--task", str(manifest), *QUICK]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "error:" in err
