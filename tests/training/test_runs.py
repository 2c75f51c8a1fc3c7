"""Whole runs: what they leave behind, how they stop, how they go on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch.testing import assert_close

from ssl_wb import load_encoder
from ssl_wb.cli.main import run as ssl_wb
from ssl_wb.data.workers import StoppedWaitingError
from ssl_wb.errors import DivergedError, InterruptedRunError, RecipeError, RunFolderError, UsageError
from ssl_wb.pretext.model import PretextModel
from ssl_wb.training.loop import Trainer
from ssl_wb.workflows.pretrain import train

#: Figures that depend on the clock and not on the run.
TIMING = {"clips_per_second", "data_wait_share"}


def metrics(run: Path) -> list[dict]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]


def test_what_a_run_leaves_behind(recipe, tmp_path):
    run = train(recipe, out=tmp_path / "run", quiet=True, overrides=["train.log_every=1"])
    assert (run / "recipe.toml").read_text() == recipe.read_text()
    assert "log_every = 1\n" in (run / "recipe.resolved.toml").read_text()
    environment = json.loads((run / "environment.json").read_text())
    assert environment["seed"] == 3
    assert environment["attention"] == "sdpa"
    assert environment["packages"]["torch"].startswith("2.")
    assert ("masker", "random") in {(plugin["kind"], plugin["name"]) for plugin in environment["plugins"]}
    rows = metrics(run)
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert rows[-1]["samples_seen"] == 96
    assert rows[-1]["loss"] < rows[0]["loss"]
    for name in ("mcl.loss", "dino.loss", "learning_rate", "gradient_norm", "student.latent_std", "mcl.won_by_2"):
        assert name in rows[0]
    assert rows[0]["health"] == {"ailing": [], "warnings": []}
    assert (run / "checkpoints" / "last").read_text() == "step-00000012\n"
    assert not list(run.rglob("*.part"))


def test_the_trained_encoder_differs_from_the_untrained_one_and_both_load_again(recipe, tmp_path):
    run = train(recipe, out=tmp_path / "run", quiet=True)
    waveform = torch.randn(1, 16000)
    trained, untrained = load_encoder(run), load_encoder(run, untrained=True)
    assert (trained.embed_clip(waveform) - untrained.embed_clip(waveform)).abs().max() > 1e-3
    assert_close(load_encoder(run).embed_clip(waveform), trained.embed_clip(waveform))
    assert_close(load_encoder(run, untrained=True).embed_clip(waveform), untrained.embed_clip(waveform))
    with pytest.raises(RunFolderError, match="not a run folder"):
        load_encoder(tmp_path)


def test_the_same_recipe_gives_the_same_numbers_and_another_seed_others(recipe, tmp_path):
    first = metrics(train(recipe, out=tmp_path / "a", quiet=True))
    assert metrics(train(recipe, out=tmp_path / "b", quiet=True)) == first
    assert metrics(train(recipe, out=tmp_path / "c", quiet=True, overrides=["seed=4"])) != first


def test_gradient_accumulation_does_not_change_the_numbers(recipe, tmp_path):
    whole = metrics(train(recipe, out=tmp_path / "a", quiet=True))
    parts = metrics(train(recipe, out=tmp_path / "b", quiet=True, overrides=["train.accumulate=4"]))
    for one, other in zip(whole, parts, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert other["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3)


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(recipe, tmp_path):
    """kill -9 in the middle; the rest of metrics.jsonl is the uninterrupted run's, number for number."""
    long = ["--set", "train.steps=60", "--set", "train.log_every=1", "--set", "train.checkpoint_every=7"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-m", "ssl_wb", "train", str(recipe), "--cpu"]
    subprocess.run([*command, *long, "--out", str(whole)], check=True, capture_output=True)
    process = subprocess.Popen([*command, *long, "--out", str(killed)], stderr=subprocess.DEVNULL)
    checkpoint = killed / "checkpoints" / "last"
    deadline = time.monotonic() + 120
    while not (checkpoint.exists() and "14" in checkpoint.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
        assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = len(metrics_lines(killed))
    assert written < 60
    again = subprocess.run([*command, "--resume", "--out", str(killed)], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert metrics(killed) == metrics(whole)
    weights = [load_encoder(run).state_dict() for run in (whole, killed)]
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key]), key


def metrics_lines(run: Path) -> list[str]:
    return (run / "metrics.jsonl").read_text().splitlines()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGTERM is not delivered on Windows")
@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
def test_sigterm_leaves_a_checkpoint_and_exit_code_75(recipe, tmp_path, group):
    """To the process, or to its data worker as well, as `timeout` and batch systems send it."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "ssl_wb", "train", str(recipe), "--cpu", "--out", str(run)]
    process = subprocess.Popen(
        [*command, *("--set", "train.steps=100000"), *("--set", "train.log_every=1"), *("--set", "data.workers=1")],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    if group:
        os.killpg(process.pid, signal.SIGTERM)
    else:
        process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "--resume" in errors
    step = int((run / "checkpoints" / "last").read_text().removeprefix("step-"))
    assert step >= 1
    assert metrics(run)[-1]["step"] <= step


def test_a_run_that_diverges_says_so_and_keeps_its_checkpoint(recipe, tmp_path):
    with pytest.raises(DivergedError) as caught:
        train(recipe, out=tmp_path / "run", quiet=True, overrides=["optimizer.lr=1e30", "train.grad_clip=1e30"])
    assert caught.value.exit_code == 5
    assert "optimizer.lr" in caught.value.hint


@pytest.mark.parametrize("log_every", [1, 50])
def test_a_run_that_diverges_says_so_whichever_step_is_logged(recipe, tmp_path, log_every):
    with pytest.raises(DivergedError):
        train(
            recipe,
            out=tmp_path / "run",
            quiet=True,
            overrides=["optimizer.lr=1e30", "train.warmup=0", "train.grad_clip=1e30", f"train.log_every={log_every}"],
        )


@pytest.mark.parametrize("rate", ["inf", "nan"])
def test_a_learning_rate_that_is_not_finite_is_refused(recipe, tmp_path, rate):
    with pytest.raises(RecipeError, match="lr"):
        train(recipe, out=tmp_path / "run", quiet=True, overrides=[f"optimizer.lr={rate}"])


def test_a_second_run_into_the_same_folder_is_refused(recipe, tmp_path):
    train(recipe, out=tmp_path / "run", quiet=True, overrides=["train.steps=1"])
    with pytest.raises(RunFolderError, match="not empty"):
        train(recipe, out=tmp_path / "run", quiet=True)
    with pytest.raises(UsageError, match="not the recipe of the run: seed is 3 in the run and 1 in --set"):
        train(recipe, out=tmp_path / "run", quiet=True, resume=True, overrides=["seed=1"])


def test_training_without_data_names_the_setting(recipe, tmp_path):
    recipe.write_text("\n".join(line for line in recipe.read_text().splitlines() if not line.startswith("train =")))
    with pytest.raises(RecipeError, match=r"data\.train"):
        train(recipe, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_collapsing_run_says_so_while_it_runs(recipe, tmp_path, caplog, monkeypatch):
    """A teacher so flat that every class is as likely as the next teaches nothing."""
    monkeypatch.setattr("ssl_wb.training.health.SETTLING", 0)  # the run has 12 steps
    recipe.write_text(
        recipe.read_text().replace("prototypes = 16", "prototypes = 16\nteacher_temperature = [50.0, 50.0]")
    )
    from ssl_wb.training import reporting

    logger = reporting.log
    logger.propagate = True
    with caplog.at_level("WARNING", logger=logger.name):
        run = train(recipe, out=tmp_path / "run", overrides=["train.log_every=1"])
    warned = [row["health"]["warnings"] for row in metrics(run)]
    assert any("dino.teacher_entropy_share" in text for texts in warned for text in texts)
    assert "nothing to learn" in caplog.text
    assert metrics(run)[-1]["health"]["ailing"] == ["dino.teacher_entropy_share"]


def test_a_weight_of_zero_keeps_the_objective_in_the_cascade_without_its_loss(recipe, tmp_path):
    run = train(recipe, out=tmp_path / "run", quiet=True, overrides=["objective.mcl.weight=0", "train.log_every=1"])
    for row in metrics(run):
        assert row["loss"] == pytest.approx(row["dino.loss"], rel=1e-5)
        assert row["mcl.loss"] > 0


def test_a_resumed_run_refuses_data_that_changed(recipe, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(4):
        soundfile.write(corpus / f"{number}.wav", np.random.default_rng(number).normal(size=16000) / 9, 16000)
    run = train(recipe, out=tmp_path / "run", quiet=True, overrides=[f"data.train={corpus}"])
    (corpus / "0.wav").unlink()
    with pytest.raises(RunFolderError, match="4 clips then, 3 now"):
        train(recipe, out=run, quiet=True, resume=True)


def test_a_resumed_run_refuses_other_files_of_the_same_number(recipe, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(4):
        soundfile.write(corpus / f"{number}.wav", np.random.default_rng(number).normal(size=16000) / 9, 16000)
    run = train(recipe, out=tmp_path / "run", quiet=True, overrides=[f"data.train={corpus}"])
    (corpus / "0.wav").rename(corpus / "9.wav")
    with pytest.raises(RunFolderError, match="its files have other names"):
        train(recipe, out=run, quiet=True, resume=True)


def test_strict_stops_at_the_first_clip_that_cannot_be_read_and_lists_it(recipe, tmp_path, capsys):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(4):
        soundfile.write(corpus / f"{number}.wav", np.random.default_rng(number).normal(size=16000) / 9, 16000)
    (corpus / "2.wav").write_text("broken")
    words = ["train", str(recipe), "--cpu", "--quiet", "--out", str(tmp_path / "run"), "--set", f"data.train={corpus}"]
    assert ssl_wb([*words, "--strict"]) == 5
    assert "1 clip cannot be read" in (said := capsys.readouterr().err)
    assert "2.wav" in said
    assert "2.wav" in json.loads((tmp_path / "run" / "unreadable.json").read_text())[0]


def test_a_batch_that_does_not_divide_is_refused_before_the_folder_is_made(recipe, tmp_path):
    with pytest.raises(RecipeError, match="not a multiple of accumulate 3"):
        train(recipe, out=tmp_path / "run", quiet=True, overrides=["train.accumulate=3"])
    assert not (tmp_path / "run").exists()


def test_tensorboard_gets_the_figures_where_it_is_installed(recipe, tmp_path):
    pytest.importorskip("tensorboard", reason="extra ssl-wb[tensorboard]")
    run = train(recipe, out=tmp_path / "run", quiet=True, overrides=['train.trackers=["tensorboard"]'])
    assert list(run.rglob("events.out.tfevents.*"))


def test_a_tracker_that_is_not_installed_is_told(recipe, tmp_path):
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match="tensorboard") as caught:
            train(recipe, out=tmp_path / "run", quiet=True, overrides=['train.trackers=["tensorboard"]'])
        assert "ssl-wb[tensorboard]" in caught.value.hint
        assert not (tmp_path / "run").exists()
    else:
        pytest.skip("tensorboard is installed")


def test_a_skipped_fp16_step_moves_no_average(recipe, tmp_path, monkeypatch):
    moved = []
    after_step = PretextModel.after_step
    monkeypatch.setattr(PretextModel, "after_step", lambda self, step: (moved.append(step), after_step(self, step)))
    skipped = iter([False, True] * 6)
    monkeypatch.setattr(AcceleratedOptimizer, "step_was_skipped", property(lambda _: next(skipped)))
    train(recipe, out=tmp_path / "run", quiet=True)
    assert moved == [1, 3, 5, 7, 9, 11]


def test_a_stop_while_waiting_for_data_keeps_the_step_and_the_unreadable_clips(
    recipe, corpus, tmp_path, monkeypatch, caplog
):
    data, run, waited = tmp_path / "data", tmp_path / "run", Trainer._backward_all
    shutil.copytree(corpus, data)
    (data / "05.wav").write_bytes(b"no audio")
    recipe.write_text(recipe.read_text().replace(str(corpus), str(data)))

    def stopped(self, loader, measure):
        if self.step == 6:  # between two checkpoints
            raise StoppedWaitingError
        return waited(self, loader, measure)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_backward_all", stopped)
        with pytest.raises(InterruptedRunError, match="stopped at step 6"):
            train(recipe, out=run, quiet=True, cpu=True)
    assert (run / "checkpoints" / "last").read_text().strip() == "step-00000006"
    assert "unreadable clip, replaced by the next one" in caplog.text
    caplog.clear()
    train(recipe, out=run, resume=True, quiet=True, cpu=True)
    assert "unreadable clip" not in caplog.text  # told, and counted, once in a run
    assert len(json.loads((run / "unreadable.json").read_text())) == 1
