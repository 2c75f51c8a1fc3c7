"""train, validate and embed, as typed on a terminal."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from ssl_wb.cli.main import run
from tiny_quickstart import TINY

FIVE_MISTAKES = """
sede = 1
[data]
clip_seconds = "long"
[masker]
name = "randon"
[backbone]
name = "vit"
size = "huge"
[[objective]]
name = "reconstruction"
norm_pach = true
[train]
steps = 5
"""


def settings(*values: str) -> list[str]:
    return [word for value in values for word in ("--set", value)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny quickstart run, its probes included."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert run(["train", "quickstart", "--cpu", "--out", str(folder), *settings(*TINY)]) == 0
    return folder


def test_training_ends_with_a_table_of_the_encoder_and_what_it_has_to_beat(trained):
    rows = json.loads((trained / "results.json").read_text())
    assert [row["encoder"] for row in rows] == ["tiny", "tiny, untrained", "log-mel mean+std", "log-mel 8 segments"]
    for row in rows:
        assert 0 <= row["interval"][0] <= row["mean"] <= row["interval"][1] <= 1
        assert row["chance"] == pytest.approx(0.1, abs=0.05)


def test_five_mistakes_are_five_messages_and_exit_code_3(tmp_path, capsys):
    path = tmp_path / "wrong.toml"
    path.write_text(FIVE_MISTAKES)
    assert run(["validate", str(path)]) == 3
    said = capsys.readouterr().err
    assert "5 mistakes" in said
    lines = [line for line in said.splitlines() if line.startswith("  - ")]
    assert len(lines) == 5
    for key, word in (("sede", "seed"), ("clip_seconds", "number"), ("randon", "random"), ("size", "base")):
        assert any(key in line and word in line for line in lines), (key, said)
    assert any("norm_pach" in line and "norm_patch" in line for line in lines)
    assert "Traceback" not in said


def test_validate_says_what_a_recipe_amounts_to(capsys):
    assert run(["validate", "matpac-plus-plus"]) == 0
    said = capsys.readouterr().out
    assert "5 x 38 patches: 57 visible + 133 masked" in said
    assert "not chosen yet" in said
    assert run(["validate", "quickstart", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["clips"], facts["visible"], facts["masked"]) == (2000, [10], [25])


def test_validate_checks_that_data_exists(tmp_path, capsys):
    wrong = (f"data.train={tmp_path / 'nowhere'}", f"evaluate.0.task={tmp_path / 'gone.csv'}")
    assert run(["validate", "quickstart", *settings(*wrong)]) == 3
    said = capsys.readouterr().err
    assert "2 mistakes" in said
    assert "data.train: " in said
    assert "evaluate.linear.task: " in said


def test_training_touches_no_folder_before_all_is_checked(trained, tmp_path, capsys):
    before = sorted(trained.rglob("*"))
    wrong = ("evaluate.0.task=gone.csv", "data.train=typo")
    assert run(["train", "quickstart", "--cpu", "--out", str(trained), "--overwrite", *settings(*wrong)]) == 3
    assert sorted(trained.rglob("*")) == before
    assert (
        run(["train", "quickstart", "--cpu", "--out", str(tmp_path / "new"), *settings(*TINY, "train.accumulate=3")])
        == 3
    )
    assert "not a multiple" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_mask_that_leaves_nothing_is_told(capsys):
    assert run(["validate", "quickstart", *settings("masker.ratio=0.99")]) == 3
    assert "none would be visible" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_embed_writes_a_row_per_clip_or_frame_and_skips_what_it_cannot_read(trained, tmp_path, capsys, ending):
    audio = tmp_path / "audio"
    audio.mkdir()
    for number, seconds in enumerate((0.5, 2.0)):
        soundfile.write(
            audio / f"{number}.wav", np.random.default_rng(number).normal(size=int(16000 * seconds)) / 9, 16000
        )
    (audio / "2.wav").write_bytes(b"no audio at all")
    out = tmp_path / f"clips.{ending}"
    assert run(["embed", str(trained), str(audio), "--out", str(out)]) == 0
    assert "skipped" in capsys.readouterr().err
    paths, values, times = read(out)
    assert [path.endswith(f"{n}.wav") for n, path in enumerate(paths)] == [True, True]
    assert values.shape == (2, 5 * 16)
    frames = tmp_path / f"frames.{ending}"
    assert run(["embed", str(trained), str(audio), "--out", str(frames), "--level", "frames"]) == 0
    _, values, times = read(frames)
    assert len(values) == 3 + 13  # 48 and 198 frames in patches of 16
    assert times[1] == pytest.approx(0.16)
    assert run(["embed", str(trained), str(audio), "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def read(path):
    if path.suffix == ".npz":
        with np.load(path) as archive:
            return list(archive["path"]), archive["embedding"], archive["time"]
    from pyarrow import parquet

    table = parquet.read_table(path).to_pydict()
    return table["path"], np.array(table["embedding"]), table["time"]


def test_embed_refuses_other_endings_before_any_work(tmp_path, capsys):
    assert run(["embed", str(tmp_path), "a.wav", "--out", "x.txt"]) == 2
    assert ".npz, .parquet or .npy" in capsys.readouterr().err
