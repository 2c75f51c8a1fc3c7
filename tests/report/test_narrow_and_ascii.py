"""Results on narrow terminals and in an ASCII locale: nothing is lost, no number is cut."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.console import Console

from ssl_wb.cli import progress
from ssl_wb.cli.main import run as ssl_wb
from ssl_wb.evaluation.results import Row
from ssl_wb.plugin.evaluator import Result
from ssl_wb.report.tables import print_table
from task_fakes import labelled, write_manifest


def rows() -> list[Row]:
    found = []
    for task in ("a-long-name", "another-one", "third"):
        for evaluator in ("linear", "knn"):
            result = Result(
                task=task,
                evaluator=evaluator,
                metric="accuracy",
                mean=0.71,
                per_fold={},
                per_seed=(0.712, 0.708),
                interval=(0.05, 1.0),
            )
            found.append(Row(encoder="an-encoder", task=task, evaluator=evaluator, result=result))
    return found


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_number_is_cut_on_a_narrow_terminal(width):
    out = io.StringIO()
    print_table(rows(), Console(file=out, width=width, force_terminal=True, color_system=None))
    text = out.getvalue()
    assert "…" not in text
    assert text.count("(5.0-100.0)") == 6


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_encoding_prints_the_results(encoding):
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding)
    print_table(rows(), Console(file=out, width=200))
    out.flush()
    text = raw.getvalue().decode(encoding)
    assert ("71.0 +-0.3" if encoding == "ascii" else "71.0 ±0.3") in text


def test_a_character_that_stdout_lacks_is_replaced(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert ssl_wb(["tasks", "list"]) == 0
    import sys

    sys.stdout.write("±")
    sys.stdout.flush()
    assert raw.getvalue().endswith(b"?")


def test_tasks_fit_eighty_columns(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    assert ssl_wb(["tasks"]) == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 35
    assert "environment" in " ".join(lines)


def test_plain_lines_tell_the_time_left(monkeypatch, capsys):
    clock = iter(np.arange(0.0, 100.0, 6.0).tolist())
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    lines = progress.ProgressLines(shown=True)
    for done in range(5):
        lines("embedding", done, 10)
    assert capsys.readouterr().err.splitlines() == [
        "embedding: 1 of 10 clips, about 54 s left",
        "embedding: 3 of 10 clips, about 42 s left",
    ]
    silent = progress.ProgressLines(shown=False)
    silent("embedding", 5, 10)
    assert capsys.readouterr().err == ""


CODE = """
import torch
class Quiet:
    sample_rate = 16000
    def embed_frames(self, w, l=None): return w.unfold(1, 400, 160).abs().log1p()[..., :8]
    def embed_clip(self, w, l=None): return self.embed_frames(w).mean(1)
"""


@pytest.mark.parametrize("command", ["evaluate", "embed", "pack"])
def test_long_commands_write_plain_lines_where_stderr_is_no_terminal(command, tmp_path, monkeypatch, capsys):
    (tmp_path / "code.py").write_text(CODE)
    clips = write_manifest(tmp_path / "clips", labelled(24))
    encoder, out = f"python:{tmp_path / 'code.py'}:Quiet", str(tmp_path / "out.npz")
    words = {
        "evaluate": [encoder, "--task", str(clips), "--evaluator", "knn", "--no-baselines", "--no-cache"],
        "embed": [encoder, str(clips.parent), "--out", out],
        "pack": [str(clips.parent), str(tmp_path / "packed")],
    }
    monkeypatch.setattr(progress, "EVERY", 0.0)
    assert ssl_wb([command, *words[command]]) == 0
    lines = re.findall(r"^(embedding|packing).*: (\d+) of 24 clips", capsys.readouterr().err, re.MULTILINE)
    assert lines
    assert lines[-1] == ("packing" if command == "pack" else "embedding", "24")
