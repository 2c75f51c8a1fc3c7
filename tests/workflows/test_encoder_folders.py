"""Encoder folders: import and export write one format, which ``load_encoder`` reads without run or file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.testing import assert_close

from imported import OLDER, layouts, only, waveforms
from ssl_wb import evaluate, load_encoder
from ssl_wb.cli.main import run as command
from ssl_wb.encoder.importing.convert import import_checkpoint
from ssl_wb.errors import DataError, RunFolderError, UsageError
from ssl_wb.workflows.encoder_folders import import_encoder
from ssl_wb.workflows.export import export_encoder

RUN = Path(__file__).parents[1] / "fixtures" / "run-0.1"


@pytest.mark.parametrize("path", layouts(), ids=lambda path: "/".join(path.parts[-2:]))
def test_an_imported_folder_gives_what_the_file_gives(path, tmp_path):
    imported = import_encoder(str(path), tmp_path / "encoder")
    again = load_encoder(tmp_path / "encoder")
    waveform = waveforms()["clip_1"]
    for method in ("embed_clip", "embed_frames", "layers"):
        ours, theirs = (getattr(one, method)(waveform) for one in (again, imported.encoder))
        assert_close(ours, theirs, rtol=0, atol=0)
    for head in imported.encoder.heads:
        assert_close(again.apply_head(head, waveform), imported.encoder.apply_head(head, waveform), rtol=0, atol=0)
    config = json.loads((tmp_path / "encoder" / "config.json").read_text())
    assert config["sample_rate"] == again.sample_rate
    assert config["width"] == again.embed_clip(waveform).shape[1]
    assert config["hop_seconds"] == pytest.approx(again.hop_seconds)
    assert config["source"]["place"] == path.name  # no path of this machine
    assert str(path.parent) not in (tmp_path / "encoder" / "README.md").read_text()
    report = json.loads((tmp_path / "encoder" / "import.json").read_text())
    assert len(report["tensors"]) == len(imported.tensors)


def test_an_exported_run_needs_no_run(tmp_path):
    run = shutil.copytree(RUN, tmp_path / "run")
    waveform = 0.1 * torch.randn(2, 40_000, generator=torch.Generator().manual_seed(0))
    before = load_encoder(run)
    export_encoder(run, tmp_path / "encoder", licence="cc0-1.0")
    expected, fresh = before.embed_frames(waveform), load_encoder(run, untrained=True).embed_clip(waveform)
    shutil.rmtree(run)
    after = load_encoder(tmp_path / "encoder")
    assert_close(after.embed_frames(waveform), expected, rtol=0, atol=0)
    assert_close(after.embed_clip(waveform), before.embed_clip(waveform), rtol=0, atol=0)
    # The run's seed is in the folder, so the weights that it started from can be had too.
    assert_close(load_encoder(tmp_path / "encoder", untrained=True).embed_clip(waveform), fresh)
    card = (tmp_path / "encoder" / "README.md").read_text()
    for part in ("license: cc0-1.0", "# made by 0.1", "| 12 | 192 |", "sound scenes | linear | accuracy", "0 to 0.4"):
        assert part in card
    assert "title" in (tmp_path / "encoder" / "recipe.toml").read_text()


def test_the_card_says_what_is_not_known(tmp_path):
    import_encoder(str(only("inference_eat_fairseq.pt")[0]), tmp_path / "encoder")
    card = (tmp_path / "encoder" / "README.md").read_text()
    assert "| licence of the weights | not stated |" in card
    assert "What comes after the training length is not read" in card


def test_load_encoder_reads_a_checkpoint_itself():
    path = only("inference_dasheng.pt")[0]
    waveform = waveforms()["clip_0"]
    assert_close(load_encoder(path).embed_clip(waveform), import_checkpoint(path).encoder.embed_clip(waveform))
    folder = only("inference_audiomosaic_hf")[0]
    assert load_encoder(folder).published == "pooled"


def test_untrained_weights_of_an_imported_encoder_are_random_and_the_same_each_time(tmp_path):
    import_encoder(str(only("inference_beats.pt")[0]), tmp_path / "encoder")
    waveform = waveforms()["clip_1"]
    trained = load_encoder(tmp_path / "encoder").embed_clip(waveform)
    first, second = (load_encoder(tmp_path / "encoder", untrained=True).embed_clip(waveform) for _ in range(2))
    assert_close(first, second, rtol=0, atol=0)
    assert not torch.allclose(first, trained, atol=1e-2)


def test_a_folder_is_not_overwritten_unless_it_holds_an_encoder(tmp_path):
    path = str(only("inference_beats.pt")[0])
    import_encoder(path, tmp_path / "encoder")
    with pytest.raises(UsageError, match="already there") as caught:
        import_encoder(path, tmp_path / "encoder")
    assert "--overwrite" in caught.value.hint
    import_encoder(str(only("inference_dasheng.pt")[0]), tmp_path / "encoder", overwrite=True)
    assert load_encoder(tmp_path / "encoder").published == "frames"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="already there"):
        import_encoder(path, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").is_file()


def test_nothing_is_written_where_an_import_fails(tmp_path):
    half = tmp_path / "half.pt"
    half.write_bytes(only("inference_beats.pt")[0].read_bytes()[:5000])
    with pytest.raises(DataError):
        import_encoder(str(half), tmp_path / "encoder")
    assert not (tmp_path / "encoder").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda config: config.pop("front_end"), "front_end"),
        (lambda config: config["backbone"].update(dim=24), "do not fit"),
        (lambda config: config["backbone"].update(colour="red"), "colour"),
        (lambda config: config["reading"].update(colour="red"), "colour"),
        (lambda config: config.update(format_version=99), "version 99"),
    ],
)
def test_a_changed_config_is_told(change, says, tmp_path):
    import_encoder(str(only("inference_eat_fairseq.pt")[0]), tmp_path / "encoder")
    file = tmp_path / "encoder" / "config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))
    with pytest.raises((RunFolderError, DataError), match=says) as caught:
        load_encoder(tmp_path / "encoder")
    assert caught.value.hint


def test_damaged_weights_of_a_folder_are_told(tmp_path):
    import_encoder(str(only("inference_eat_fairseq.pt")[0]), tmp_path / "encoder")
    file = tmp_path / "encoder" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(RunFolderError, match="cannot be read as an encoder folder"):
        load_encoder(tmp_path / "encoder")


def test_commands_import_and_export(tmp_path, capsys):
    path = str(next(OLDER.glob("m2d_vit_base-*")))
    assert command(["import", path, "--out", str(tmp_path / "m2d"), "--set", "heads=4", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["system"] == "m2d"
    assert "left over" in err
    assert "the decoder of pre-training" in err
    assert command(["export", str(RUN), "--out", str(tmp_path / "own"), "--for", "encoder"]) == 0
    assert (tmp_path / "own" / "config.json").is_file()
    capsys.readouterr()
    assert command(["import", path, "--out", str(tmp_path / "x"), "--set", "heads"]) == 2
    assert "expected KEY=VALUE" in capsys.readouterr().err
    assert command(["import", str(tmp_path / "absent.pt"), "--out", str(tmp_path / "x")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert command(["export", str(tmp_path / "absent"), "--out", str(tmp_path / "x")]) == 2
    assert "not a run folder" in capsys.readouterr().err


def test_imported_and_own_encoders_stand_in_one_table(tmp_path):
    random = np.random.default_rng(0)
    lines = ["path,label,split"]
    for number in range(24):
        label = number % 2
        tone = 0.2 * np.sin(2 * np.pi * (300 + 900 * label) * np.arange(8000) / 16000)
        soundfile.write(tmp_path / f"{number}.wav", tone + 0.02 * random.standard_normal(8000), 16000)
        lines.append(f"{number}.wav,{'high' if label else 'low'},{('train', 'val', 'test')[number // 2 % 3]}")
    (tmp_path / "tones.csv").write_text("\n".join(lines))
    import_encoder(str(only("inference_eat_fairseq.pt")[0]), tmp_path / "eat")
    import_encoder(str(only("inference_beats.pt")[0]), tmp_path / "beats")
    export_encoder(RUN, tmp_path / "own")
    found = evaluate(
        [tmp_path / "eat", tmp_path / "beats", tmp_path / "own"],
        [tmp_path / "tones.csv"],
        evaluators=["knn"],
        seeds=1,
        untrained=False,
    )
    assert [row.encoder for row in found.rows][:3] == ["eat", "beats", "own"]
    assert not found.failures
