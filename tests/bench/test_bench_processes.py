"""Groups of processes take turns; graphs compiled after the warm-up are counted."""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace

import pytest
import torch

from ssl_wb.bench import processes as module
from ssl_wb.bench.entries import recipe_entry
from ssl_wb.bench.processes import bench_processes, group_sizes
from ssl_wb.bench.run import bench
from ssl_wb.bench.timed_trainer import TimedTrainer
from ssl_wb.cli.main import run
from ssl_wb.errors import UsageError, WorkbenchError
from ssl_wb.layers import processes
from ssl_wb.training.dry_run import noise_batches
from ssl_wb.training.kernels import _check_compiler

CPU = torch.device("cpu")

#: A batch that two processes share.
EIGHT = "train.batch_size=8"


def test_group_sizes():
    assert group_sizes(1) == [1]
    assert group_sizes(2) == [1, 2]
    assert group_sizes(7) == [1, 2, 4]
    assert group_sizes(8) == [1, 2, 4, 8]


@pytest.mark.slow
def test_groups_share_the_batch_and_take_turns(recipe, monkeypatch, tmp_path, capsys):
    chatty = tmp_path / "sitecustomize.py"
    chatty.write_text("print('a library says its version')")  # on stdout, which is for answers
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(module, "threads_each", lambda processes: 2 // processes)
    chart, figures = tmp_path / "p.png", tmp_path / "p.json"
    words = ["bench", str(recipe), "--set", EIGHT, "--device", "cpu", "--repeats", "2", "--scale", "processes"]
    assert run([*words, "--chart", str(chart), "--json", str(figures)]) == 0
    table = capsys.readouterr().out
    assert "OF IDEAL" in table
    assert "to the power" not in table
    report = json.loads(figures.read_text())
    assert [one["processes"] for one in report["contestants"]] == [1, 2]
    assert [one["threads"] for one in report["contestants"]] == [1, 1]
    assert [len(one["each"]["step_seconds"]) for one in report["contestants"]] == [2, 2]
    one, two = report["contestants"]
    assert one["share_of_ideal"]["median"] == 1.0
    ideal = one["step_seconds"]["median"] / (2 * two["step_seconds"]["median"])
    assert two["share_of_ideal"]["median"] == pytest.approx(ideal)
    assert two["clips_per_second"] == pytest.approx(8 / two["step_seconds"]["median"])
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_noise_of_two_processes_is_two_halves_of_a_batch(recipe, monkeypatch):
    loaded = recipe_entry(recipe, [EIGHT, "train.micro_batch=2"]).loaded
    model = SimpleNamespace(
        masker=SimpleNamespace(views=1), backbone=SimpleNamespace(patch=(16, 16)), needs=frozenset(),
        shapes=SimpleNamespace(caption_dim=4),
    )  # fmt: skip
    rows = {}
    for rank in (0, 1):
        monkeypatch.setattr("ssl_wb.training.dry_run.process_place", lambda rank=rank: (rank, 2))
        made = noise_batches(loaded, model)
        assert [len(batch.waveform) for batch in made] == [2, 2]
        rows[rank] = [batch.first_row + row for batch in made for row in range(2)]
    assert sorted(rows[0] + rows[1]) == list(range(8))
    assert processes.process_place() == (0, 1)


def test_what_cannot_be_measured_is_told(recipe, monkeypatch, tmp_path, capsys):
    entry = recipe_entry(recipe, [EIGHT])
    monkeypatch.setattr(module, "threads_each", lambda processes: 1)
    with pytest.raises(UsageError, match="one core"):
        bench_processes(entry, device=CPU, repeats=1, warmup=1)
    monkeypatch.setattr(module, "threads_each", lambda processes: 16)
    with pytest.raises(UsageError, match="does not divide by 16"):
        bench_processes(entry, device=CPU, repeats=1, warmup=1)
    assert run(["bench", str(recipe), "--scale", "processes", "--profile", str(tmp_path / "a.json")]) == 2
    assert "--profile looks at one process" in capsys.readouterr().err
    assert run(["bench", str(recipe), "--set", "train.micro_batch='auto'"]) == 2
    assert "found before training" in capsys.readouterr().err


def test_a_group_that_ends_is_told_by_its_last_words(recipe, monkeypatch, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such thing >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(module, "threads_each", lambda processes: 2 // processes)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(WorkbenchError, match="no such thing"):
        bench_processes(recipe_entry(recipe, [EIGHT]), device=CPU, repeats=1, warmup=1)


@pytest.mark.slow
def test_a_process_that_ends_is_told_by_its_last_words(recipe, monkeypatch, tmp_path):
    """Even where another waits for it, as processes that meet do."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nif os.environ.get('RANK') == '1':\n    os.write(2, b'no such thing')\n    os._exit(3)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(module, "threads_each", lambda processes: 2 // processes)
    with pytest.raises(WorkbenchError, match=r"(?s)no such thing.*process 1 with exit code 3"):
        bench_processes(recipe_entry(recipe, [EIGHT]), device=CPU, repeats=1, warmup=1)


@pytest.mark.slow
def test_graphs_compiled_in_measured_steps_are_counted(recipe, monkeypatch):
    try:
        _check_compiler(CPU)
    except UsageError as error:
        pytest.skip(str(error))
    trainer = TimedTrainer(recipe_entry(recipe, ["train.compile=true", "backbone.depth=1"]), CPU)
    trainer.warm_up(1)
    trainer.measure()
    trainer.measure_parts()
    assert trainer.recompiled == 0
    torch._dynamo.reset()  # what was compiled is forgotten, so the next step compiles
    trainer.measure()
    assert trainer.recompiled >= 1
    report = bench([recipe_entry(recipe)], device=CPU, repeats=1, warmup=1)
    assert report["contestants"][0]["graphs_compiled_after_warmup"] is None
