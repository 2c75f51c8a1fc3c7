"""Cases of runs, their folders and the machine; each test is named after the folder of its case."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from fast_run import FAST, TRAIN

from ssl_wb.plugin.registry import PluginRecord, Registry, load_registry


def test_damaged_run(case, base, a_run, ssl_wb):
    case("damaged-run")
    for content in ("{}", "[]", ""):
        (a_run / "statistics.json").write_text(content)
        code, _, err = ssl_wb("embed", a_run, base, "--out", "o.npz")
        assert code == 2
        assert "statistics.json: " in err
        assert "unexpected" not in err


def test_damaged_run_with_other_weights(case, base, a_run, ssl_wb):
    case("damaged-run")
    recipe = a_run / "recipe.resolved.toml"
    recipe.write_text(recipe.read_text().replace("dim = 32", "dim = 64"))
    code, _, err = ssl_wb("embed", a_run, base, "--out", "o.npz")
    assert code == 2
    assert "the weights do not fit the recipe's model" in err
    assert len(err) < 1500


@pytest.mark.parametrize("device", ["nonsense", *([] if torch.cuda.is_available() else ["cuda"])])
def test_device_cuda(case, base, a_run, ssl_wb, device):
    case("device-cuda")
    code, _, err = ssl_wb("embed", a_run, base, "--out", "o.npz", "--device", device)
    assert code == 2
    assert f"device '{device}': no such device here" in err


@pytest.mark.parametrize("every", [1, 50])
def test_divergence_at_a_logged_step(case, base, ssl_wb, every):
    case("divergence-at-a-logged-step")
    sets = ["optimizer.lr=1e6", "train.warmup=0", f"train.log_every={every}", f"data.train={base}"]
    code, _, err = ssl_wb(*TRAIN, *(word for one in sets for word in ("--set", one)), "--out", "r")
    assert code == 5
    assert "gradient norm is" in err or "loss is" in err


def test_docker_shm_64m(case, base, ssl_wb, monkeypatch):
    case("docker-shm-64m")
    monkeypatch.setattr("ssl_wb.data.loader.free_shared_memory", lambda: 1 << 20)
    code, _, err = ssl_wb(*TRAIN, "--set", f"data.train={base}", "--set", "data.workers=2", "--out", "r")
    assert code == 0
    assert "batches are sent through pipes" in err


@pytest.mark.parametrize("name", ["embed-output-found-unwritable-last", "unwritable-output"])
def test_unwritable_output(case, base, a_run, ssl_wb, name):
    case(name)
    Path("d.npz").mkdir()
    Path("file").write_text("")
    for out in ("d.npz", "file/o.npz", *(["/proc/nope/e.npz"] if sys.platform == "linux" else [])):
        code, _, err = ssl_wb("embed", a_run, base, "--out", out)
        assert code == 2
        assert "cannot be written" in err
        assert "embedding:" not in err
    code, _, err = ssl_wb(*TRAIN, "--set", f"data.train={base}", "--out", "file/run")
    assert code == 2
    assert "cannot be written" in err
    assert not list(Path().glob(".*part*"))


def test_messages_of_the_machine(case, base, a_run, ssl_wb, monkeypatch):
    case("messages-of-the-machine")
    from safetensors import SafetensorError

    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr("ssl_wb.runs.checkpoint.save_file", full)
        code, _, err = ssl_wb(*TRAIN, "--set", f"data.train={base}", "--out", "r")
    assert code == 1
    assert "the disk is full" in err
    assert "--resume" in err
    assert "unexpected" not in err
    (a_run / "checkpoints" / "step-00000012" / "state.json").write_text("")
    code, _, err = ssl_wb("train", "quickstart", "--cpu", "--resume", "--out", a_run)
    assert code == 0
    assert "going on from step-00000008" in err


def test_messages_of_the_machine_environment(case, a_run, ssl_wb):
    case("messages-of-the-machine")
    (a_run / "environment.json").write_text("")
    code, _, err = ssl_wb("train", "quickstart", "--cpu", "--resume", "--out", a_run)
    assert code == 0
    assert "environment.json: cannot be read" in err


def test_messages_of_the_machine_memory(case, base, a_run, ssl_wb, monkeypatch):
    case("messages-of-the-machine")
    from ssl_wb.audio.decode import read

    def too_long(path, *given, **named):
        if path.name == "c05.wav":
            raise MemoryError
        return read(path, *given, **named)

    monkeypatch.setattr("ssl_wb.encoder.files.read", too_long)
    code, _, err = ssl_wb("embed", a_run, base, "--out", "o.npz")
    assert code == 0
    assert "skipped: " in err
    assert "c05.wav: " in err
    assert "memory" in err


def test_named_checkpoint(case, base, a_run, ssl_wb):
    case("named-checkpoint")
    assert ssl_wb("embed", a_run, base, "--out", "a.npz", "--checkpoint", "step-00000008")[0] == 0
    for name in ("middle", "last"):
        (a_run / "checkpoints" / "last").unlink(missing_ok=True)
        code, _, err = ssl_wb("embed", a_run, base, "--out", "o.npz", "--checkpoint", name)
        assert code == 2
        assert "step-00000008" in err


def test_plugin_gone(case, base, a_run, ssl_wb, monkeypatch):
    case("plugin-gone")
    for name in ("evaluator-linear", "masker-random", "objective-reconstruction"):
        monkeypatch.setenv("SSL_WB_BLOCK_PLUGINS", name)
        monkeypatch.setattr("ssl_wb.plugin.registry._cached", None)
        assert ssl_wb("embed", a_run, base, "--out", f"{name}.npz")[0] == 0


RAISING = """
from ssl_wb.api import Masker


class Raising(Masker):
    name = "raising"

    def __call__(self, request):
        raise KeyError("no such mask")
"""


def test_plugins(case, base, ssl_wb, monkeypatch):
    """A masker that raises is named with distribution, file and line; wrong values that are returned are not."""
    path = case("plugins") / "raising.py"
    path.write_text(RAISING)
    spec = importlib.util.spec_from_file_location("raising", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "raising", module)
    spec.loader.exec_module(module)
    record = PluginRecord("masker", "raising", "wrong", "1.0", "active", plugin=module.Raising)
    monkeypatch.setattr("ssl_wb.plugin.registry._cached", Registry([*load_registry().records, record]))
    code, _, err = ssl_wb(*TRAIN, "--set", f"data.train={base}", "--set", "masker={name='raising'}", "--out", "r")
    assert code == 4
    assert "masker 'raising' of wrong 1.0 failed at raising.py:9: KeyError: 'no such mask'" in err


def test_resume_with_other_files(case, base, a_run, ssl_wb):
    case("resume-with-other-files")
    record = json.loads((a_run / "data.json").read_text())
    clips = Path(record["source"])
    shutil.copytree(clips, "kept")
    try:
        samples, rate = soundfile.read(clips / "c00.wav")
        soundfile.write(clips / "c00.wav", samples[::-1], rate)
        code, _, err = ssl_wb("train", "quickstart", "--cpu", "--resume", "--out", a_run)
    finally:
        shutil.copy("kept/c00.wav", clips / "c00.wav")
    assert code == 2
    assert "the data changed since the run began" in err


def test_two_writers_one_run(case, a_run, ssl_wb):
    case("two-writers-one-run")
    source = (
        "import sys, time; from pathlib import Path; from ssl_wb.runs.lock import RunLock; "
        f"RunLock(Path({str(a_run / 'run.lock')!r})).take(); print('taken', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "taken\n"
            for words in (["--resume"], ["--overwrite", *FAST]):
                code, _, err = ssl_wb("train", "quickstart", "--cpu", *words, "--out", a_run)
                assert code == 2
                assert f"a run is being written here by process {other.pid}" in err
        finally:
            other.kill()
