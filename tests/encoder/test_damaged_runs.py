"""Run folders with missing plugins, damaged files or other checkpoints: what still loads, and what is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ssl_wb.cli.main import run as ssl_wb
from ssl_wb.encoder.load import load_encoder
from ssl_wb.errors import RunFolderError
from ssl_wb.plugin.registry import load_registry
from ssl_wb.workflows.evaluate import read_tasks

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run-0.1"


@pytest.fixture
def run(tmp_path) -> Path:
    return shutil.copytree(FIXTURE, tmp_path / "run")


@pytest.fixture
def block(monkeypatch):
    """Leave plugins out, until the test ends."""

    def leave_out(names: str) -> None:
        monkeypatch.setenv("SSL_WB_BLOCK_PLUGINS", names)
        load_registry(refresh=True)

    yield leave_out
    monkeypatch.delenv("SSL_WB_BLOCK_PLUGINS", raising=False)
    load_registry(refresh=True)


@pytest.mark.parametrize(
    "gone",
    [
        "evaluator-linear",
        "masker-random",
        "objective-mcl",
        "objective-mcl,objective-dino",
        "optimiser-adamw",
        "source-scenes",
    ],
)
def test_an_encoder_needs_its_front_end_and_backbone_only(run, block, gone):
    tone = torch.sin(torch.arange(16000) * 0.1)
    whole = load_encoder(run).embed_clip(tone)
    block(gone)
    assert_close(load_encoder(run).embed_clip(tone), whole)


def test_the_clips_of_a_run_can_be_evaluated_without_its_masker_and_objectives(run, block, monkeypatch):
    seen = []
    monkeypatch.setattr("ssl_wb.workflows.evaluate.load_task", lambda source, **options: seen.append(options))
    block("masker-random,objective-mcl,objective-dino,evaluator-linear")
    read_tasks(["synthetic:scenes"], encoders={"run": run})
    assert seen[0]["settings"].run == run


def test_a_missing_backbone_is_still_named(run, block, capsys):
    block("backbone-vit")
    assert ssl_wb(["embed", str(run), str(run), "--out", str(run / "o.npz")]) == 3
    assert "no backbone is called 'vit'" in capsys.readouterr().err


def told(run: Path, **options: str) -> str:
    with pytest.raises(RunFolderError) as caught:
        load_encoder(run, **options)
    assert caught.value.hint
    return f"{caught.value.message}\n{caught.value.hint}"


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[]",
        "3",
        "null",
        '{"mean": "x", "std": 1}',
        '{"mean": NaN, "std": 1}',
        '{"mean": 0, "std": 0}',
        "{",
        "\x00\xff",
    ],
)
def test_damaged_statistics_are_named(run, content):
    (run / "statistics.json").write_text(content, encoding="latin-1")
    message = told(run)
    assert "statistics.json" in message
    assert "damaged" in message


@pytest.mark.parametrize(
    ("before", "after"),
    [("dim = 32\ndepth = 2", "dim = 48\ndepth = 2"), ("depth = 2", "depth = 3"), ("depth = 2", "depth = 1")],
)
def test_weights_of_another_shape_are_told_in_a_few_lines(run, before, after):
    resolved = run / "recipe.resolved.toml"
    head, _, backbone = resolved.read_text().partition("[backbone]")
    lines = dict(line.split(" = ") for line in before.splitlines())
    new = dict(line.split(" = ") for line in after.splitlines())
    for key in lines:
        backbone = backbone.replace(f"\n{key} = {lines[key]}\n", f"\n{key} = {new[key]}\n", 1)
    resolved.write_text(f"{head}[backbone]{backbone}")
    message = told(run)
    assert "do not fit" in message
    assert len(message) < 600


def test_a_checkpoint_by_its_name(run):
    early, late = (load_encoder(run, checkpoint=name) for name in ("step-00000004", "step-00000008"))
    assert_close(late.state_dict(), load_encoder(run).state_dict())
    assert not torch.equal(early.backbone.trunk.norm.weight, late.backbone.trunk.norm.weight)


def test_checkpoints_that_are_not_there(run):
    assert "no checkpoint 'middle'" in told(run, checkpoint="middle")
    assert "step-00000004, step-00000008" in told(run, checkpoint="middle")
    assert "did you mean 'step-00000008'" in told(run, checkpoint="step-8")
    (run / "checkpoints" / "best").unlink()
    assert "no checkpoint 'best'" in told(run, checkpoint="best")
    (run / "checkpoints" / "last").write_text("\n")
    assert "last names ''" in told(run)
    (run / "checkpoints" / "last").unlink()
    assert "--checkpoint step-00000008" in told(run)
    shutil.rmtree(run / "checkpoints")
    assert "no checkpoint yet" in told(run)
    assert json.loads((run / "statistics.json").read_text())  # nothing was changed
