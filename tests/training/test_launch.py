"""Several processes of one run: launching, stopping, resuming, failing, and the number that was asked for."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ssl_wb.cli.main import run
from ssl_wb.errors import DataError, ExitCode, UsageError, WorkbenchError
from ssl_wb.runs.checkpoint import load_checkpoint, save_checkpoint
from ssl_wb.runs.sharding import check_strategy, sharding
from ssl_wb.training import launch
from ssl_wb.training.launch import Machines, check_world
from ssl_wb.workflows.pretrain import train

# AdamW's first steps have the size of the learning rate however small a gradient is, its rounding included: a low rate
# keeps that out of what is compared.
SETTINGS = ["optimizer.lr=1e-5", "train.log_every=1", "train.steps=40", "train.checkpoint_every=1000"]


def start(recipe, out, *words: str) -> subprocess.Popen:
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    command = [sys.executable, "-m", "ssl_wb", "train", str(recipe), "--cpu", "--out", str(out), *words]
    return subprocess.Popen(
        command, env={**environment, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def end(process: subprocess.Popen) -> tuple[int, str]:
    said = process.communicate(timeout=120)[1]
    return process.returncode, said


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_losses(got, wanted):
    assert [row["step"] for row in got] == [row["step"] for row in wanted]
    assert [row["loss"] for row in got] == pytest.approx([row["loss"] for row in wanted], abs=1e-5)


@pytest.mark.slow
def test_two_processes_stop_with_a_checkpoint_and_go_on_as_two_or_as_one(recipe, tmp_path):
    settings = [word for each in SETTINGS for word in ("--set", each)]
    two = tmp_path / "two"
    process = start(recipe, two, "--processes", "2", *settings)
    while process.poll() is None and not ((two / "metrics.jsonl").is_file() and len(rows(two)) >= 2):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    code, said = end(process)
    assert code == ExitCode.RESUMABLE, said
    assert said.count("error: ") == 1
    assert f"--resume --out '{two}' --processes 2" in said
    stopped = len(rows(two))
    assert stopped < 40
    shutil.copytree(two, tmp_path / "one")

    code, said = end(start(recipe, two, "--resume", "--processes", "2"))
    assert code == 0, said
    assert said.count("trained parameters") == 1  # the first process speaks for all
    environment = json.loads((two / "environment.json").read_text())
    assert (environment["processes"], environment["device"]["threads"]) == (2, 1)
    train(recipe, out=tmp_path / "one", resume=True, quiet=True, cpu=True)
    train(recipe, out=tmp_path / "whole", overrides=SETTINGS, quiet=True, cpu=True)
    for name in ("two", "one"):
        assert_same_losses(rows(tmp_path / name), rows(tmp_path / "whole"))


@pytest.mark.slow
def test_two_machines_give_the_losses_of_one_process(recipe, tmp_path):
    settings = [*SETTINGS, "train.steps=6"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["--machines", "2", "--processes", "1", "--main-address", address]
    words += [word for each in settings for word in ("--set", each)]
    both = [start(recipe, tmp_path / "two", *words, "--rank", str(rank)) for rank in range(2)]
    for process in both:
        code, said = end(process)
        assert code == 0, said
    assert json.loads((tmp_path / "two" / "environment.json").read_text())["processes"] == 2
    train(recipe, out=tmp_path / "one", overrides=settings, quiet=True, cpu=True)
    assert_same_losses(rows(tmp_path / "two"), rows(tmp_path / "one"))


@pytest.mark.slow
def test_a_mistake_of_all_processes_is_told_once_with_its_exit_code(recipe, tmp_path):
    code, said = end(start(recipe, tmp_path / "run", "--processes", "2", "--set", "masker.ratio=0.99"))
    assert code == ExitCode.RECIPE, said
    assert said.count("none would be visible") == 1
    assert "Traceback" not in said
    assert "elastic" not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--processes", "0"], "at least 1"),
        (["--machines", "2"], "needs a place to meet"),
        (["--machines", "2", "--rank", "2", "--main-address", "a:1"], "--rank 2 is not one of 2 machines"),
        (["--machines", "2", "--main-address", "somewhere"], "is not HOST:PORT"),
        (["--rank", "1"], "--rank 1 is not one of 1 machine"),
    ],
)
def test_places_that_cannot_be(words, said, recipe, tmp_path, capsys):
    assert run(["train", str(recipe), "--cpu", "--out", str(tmp_path / "run"), *words]) == ExitCode.USAGE
    assert said in capsys.readouterr().err


def test_another_number_of_processes_than_asked_for_stops_the_run(recipe, tmp_path):
    with pytest.raises(UsageError, match="2 processes were asked for and 1 is there"):
        train(recipe, out=tmp_path / "run", quiet=True, cpu=True, processes=2)
    assert not (tmp_path / "run").exists()
    check_world(2, 2)
    check_world(2, None)


def test_accelerate_launch_that_starts_one_process_for_two_in_silence_is_found_out(recipe, tmp_path, monkeypatch):
    # What `accelerate launch --cpu --num_processes 2` leaves in the environment of the only process it starts.
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.delenv("MASTER_PORT", raising=False)
    check_world(1, None)  # one was asked for
    monkeypatch.setenv("MASTER_PORT", "29500")
    check_world(1, 1)
    with pytest.raises(UsageError, match="accelerate launch"):
        train(recipe, out=tmp_path / "run", quiet=True, cpu=True)


def test_fsdp_without_cuda_is_refused_and_no_ddp_takes_its_place(recipe, tmp_path, capsys):
    words = ["train", str(recipe), "--cpu", "--out", str(tmp_path / "run"), "--set", "train.strategy=fsdp"]
    assert run(words) == ExitCode.USAGE
    assert "FSDP needs CUDA" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_strategy_is_the_recipes(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    cuda = torch.device("cuda")
    assert sharding("ddp", cuda) is None
    with pytest.raises(UsageError, match="there is 1"):
        sharding("fsdp", cuda)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")  # Accelerate writes it: put it back afterwards
    assert sharding("fsdp", cuda).fsdp_version == 2
    check_strategy("fsdp", "FSDP")
    check_strategy("ddp", "MULTI_CPU")
    for strategy, got in (("ddp", "FSDP"), ("fsdp", "MULTI_GPU"), ("ddp", "DEEPSPEED")):
        with pytest.raises(UsageError, match=got):
            check_strategy(strategy, got)


@pytest.fixture
def mesh(tmp_path):
    """A group of this process alone: enough for sharded tensors."""
    from torch import distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_a_sharded_checkpoint_is_a_whole_one_and_comes_back_sharded(mesh, tmp_path):
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    def build(shard: bool):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
        if shard:
            fully_shard(model, mesh=mesh)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    def step(model, optimizer):
        model(torch.arange(12.0).view(4, 3)).pow(2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    def save(model, optimizer, name, write=True):
        given = {"state": {"step": 1}, "best": True, "keep": 1, "write": write}
        return save_checkpoint(tmp_path / name, model=model, optimizer=optimizer, **given)

    sharded, plain = build(True), build(False)
    step(*sharded)
    step(*plain)
    assert not save(*sharded, "silent", write=False).exists()
    checkpoint = save(*sharded, "sharded")
    again, crossed = build(True), build(False)
    load_checkpoint(checkpoint, model=again[0], optimizer=again[1])
    load_checkpoint(checkpoint, model=crossed[0], optimizer=crossed[1])
    parameter = next(again[0].parameters())
    assert isinstance(parameter, DTensor)
    assert isinstance(again[1].state[parameter]["exp_avg"], DTensor)
    step(*plain)
    for resumed in (again, crossed):
        step(*resumed)
        for value, wanted in zip(resumed[0].parameters(), plain[0].parameters(), strict=True):
            value = value.full_tensor() if isinstance(value, DTensor) else value
            assert_close(value, wanted)


def report(folder, rank: int, code: int, when: float, message: str = "why") -> None:
    """Leave an error file where torchelastic's agent has those of its processes."""
    values = {"rank": rank, "message": message, "hint": "do", "code": code, "trace": "", "when": when}
    file = folder / "run" / "attempt_0" / str(rank) / "error.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"message": {"message": message, "extraInfo": {"failure": values}}}))


def tell(folder, machines, codes, **stopped):
    launch._raise_failure(launch._read_failures(folder), machines, codes, **stopped)


def test_the_cause_is_told_and_not_what_followed_from_it(tmp_path):
    report(tmp_path, 0, 1, 1.0, "RuntimeError: connection closed by peer")
    report(tmp_path, 1, 5, 2.0, "the loss is nan")
    report(tmp_path, 2, 75, 0.5, "stopped")
    with pytest.raises(WorkbenchError, match="the loss is nan") as caught:
        tell(tmp_path, Machines(3), {0: 1, 1: 5, 2: 75})
    assert caught.value.exit_code == ExitCode.DIVERGED


def test_a_process_that_was_killed_is_named(tmp_path):
    report(tmp_path, 0, 1, 1.0, "RuntimeError: connection closed by peer")
    with pytest.raises(WorkbenchError, match="process 1 by SIGKILL"):
        tell(tmp_path, Machines(2), {0: 1, 1: -9})
    with pytest.raises(WorkbenchError, match="unexpected error in process 0: RuntimeError"):
        tell(tmp_path, Machines(2), {0: 1})


def test_ctrl_c_ends_as_ctrl_c_and_a_stop_before_training_as_the_shell_has_it(tmp_path):
    with pytest.raises(SystemExit) as caught:
        tell(tmp_path, Machines(2), {}, stopped_by=signal.SIGTERM)
    assert caught.value.code == 128 + signal.SIGTERM
    report(tmp_path, 0, 130, 1.0)
    report(tmp_path, 1, 130, 1.0)
    with pytest.raises(KeyboardInterrupt):
        tell(tmp_path, Machines(2), {}, stopped_by=signal.SIGINT)


def test_a_process_that_ctrl_c_ended_records_nothing():
    with pytest.raises(KeyboardInterrupt):
        launch._raise_failure([], Machines(2), {0: 130, 1: 130})


def test_a_failure_is_recorded_with_hint_and_exit_code(tmp_path, monkeypatch):
    def fail():
        raise DataError("no clips", hint="name another folder")

    with pytest.raises(DataError):
        launch.run_recorded(fail)  # not launched by us: as it is
    file = tmp_path / "attempt_0" / "1" / "error.json"
    file.parent.mkdir(parents=True)
    for key, value in {"SSL_WB_LAUNCHED": "1", "RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_ERROR_FILE": file}.items():
        monkeypatch.setenv(key, str(value))
    with pytest.raises(SystemExit) as caught:
        launch.run_recorded(fail)
    assert caught.value.code == ExitCode.USAGE
    with pytest.raises(WorkbenchError, match="no clips") as told:
        tell(tmp_path, Machines(2), {1: 2})
    assert (told.value.hint, told.value.exit_code) == ("name another folder", ExitCode.USAGE)


def test_every_process_gets_the_command_line_as_it_was_typed(monkeypatch):
    seen = []
    monkeypatch.setattr(launch, "_accelerate", lambda module, words, machines, logs: seen.append(list(words)))
    words = ["--debug", "train", "tiny", "--cpu", "--quiet", "--set", "seed=1", "--processes", "2", "--out", "a b"]
    assert run(words) == 0
    assert seen == [words]


def test_the_notice_of_a_scheduler_reaches_the_agent_as_sigterm(monkeypatch):
    got = []
    monkeypatch.setattr(launch, "_accelerate", lambda *_: os.kill(os.getpid(), signal.SIGUSR1))
    before, usual = (
        signal.signal(signal.SIGTERM, lambda number, _: got.append(number)),
        signal.getsignal(signal.SIGUSR1),
    )
    try:
        launch.launch(["train"], Machines(2))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert got == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGUSR1) is usual


def test_cores_are_shared_out():
    cores = launch.threads_each(1)
    assert launch.threads_each(cores) == 1
    assert launch.threads_each(2 * cores) == 1


@pytest.mark.gpu
def test_more_processes_than_gpus_are_refused(recipe, tmp_path, capsys):
    many = torch.cuda.device_count() + 1
    assert run(["train", str(recipe), "--out", str(tmp_path / "run"), "--processes", str(many)]) == ExitCode.USAGE
    assert "each process needs one of its own" in capsys.readouterr().err
