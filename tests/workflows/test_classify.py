"""A run trained beside captions names sounds: classify, the evaluators zero-shot and caption-retrieval."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from ssl_wb import load_encoder
from ssl_wb.api import CaptionMatchingEncoder, ProbeTask, Split
from ssl_wb.cli.main import run
from ssl_wb.data.captions import embed_captions
from ssl_wb.encoder.load import build_pretext, open_run, run_weights
from ssl_wb.errors import DataError, UsageError
from ssl_wb_plugins.evaluators.caption_retrieval import CaptionRetrieval, ranking_scores
from ssl_wb_plugins.evaluators.zero_shot import ZeroShot
from tiny_quickstart import TINY_MODEL

RATE = 16000
#: A sound of each label; the words share nothing.
SOUNDS = {"low_hum": 200.0, "whistle": 3000.0, "hiss": None}


def sound(label, seed):
    draw = np.random.default_rng(seed)
    time = np.arange(RATE) / RATE
    pitch = SOUNDS[label]
    tone = draw.standard_normal(RATE) if pitch is None else np.sin(2 * np.pi * pitch * draw.uniform(0.9, 1.1) * time)
    return (0.1 * tone + 0.001 * draw.standard_normal(RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with clips, a manifest, and a run that learnt its captions."""
    folder = tmp_path_factory.mktemp("captions")
    lines = ["path,label,split,caption"]
    for seed in range(8):
        for label in SOUNDS:
            name = f"{label}-{seed}.wav"
            soundfile.write(folder / name, sound(label, seed), RATE)
            words = label.replace("_", " ")
            lines.append(
                f"{name},{label},{'test' if seed > 5 else 'train'},{words} can be heard|take {seed} of {words}"
            )
    (folder / "sounds.csv").write_text("\n".join(lines) + "\n")
    settings = [*TINY_MODEL, "backbone.dim=32", "train.steps=50", "train.batch_size=12", "train.warmup=5"]
    settings += ["data.captions.dim=64", "data.captions.template={} can be heard", "data.clip_seconds=0.96"]
    settings += [
        "optimizer.lr=0.01",
        f"data.train={folder / 'sounds.csv'}",
        "train.log_every=50",
        "data.captions.source=caption",
    ]
    words = ["train", "m2d-clap-small", "--out", str(folder / "run")]
    assert run([*words, *(word for one in settings for word in ("--set", one))]) == 0
    return folder


def test_cosines_are_those_of_the_trained_objective(place):
    encoder = load_encoder(place / "run")
    assert isinstance(encoder, CaptionMatchingEncoder)
    waveform = torch.from_numpy(np.stack([sound("hiss", 50), sound("whistle", 50)]))
    lengths = torch.tensor([RATE, RATE // 2])
    captions = ["hiss can be heard", "whistle can be heard"]
    found = encoder.match_captions(waveform, captions, lengths)
    folder, loaded, _ = open_run(place / "run")
    clap = build_pretext(folder, loaded, run_weights(folder, "last")).eval().objectives["clap"]
    with torch.no_grad():
        text = clap.text_projector(torch.from_numpy(embed_captions(captions, loaded.recipe.data.captions)))
        for row, samples in enumerate(lengths.tolist()):
            tiles = load_encoder(place / "run", embedding="frames").embed_frames(waveform[row : row + 1, :samples])
            audio = clap.audio_projector(tiles.mean(dim=1))  # the frames' mean over rows and time is that over patches
            torch.testing.assert_close(found[row : row + 1], torch.cosine_similarity(audio[:, None], text[None], dim=2))
    with pytest.raises(UsageError, match="no sentence"):
        encoder.match_captions(waveform, [])


def test_classify_names_new_sounds(place, tmp_path, capsys):
    for label in SOUNDS:
        soundfile.write(tmp_path / f"new-{label}.wav", sound(label, 99), RATE)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    words = ["classify", str(place / "run"), str(tmp_path), "--labels", "low hum,whistle,hiss", "--json"]
    assert run(words) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert "skipped: " in captured.err
    assert len(found) == 3
    for one in found:
        best = max(one["probabilities"], key=one["probabilities"].get)
        assert best.replace(" ", "_") in one["path"]
        assert sum(one["probabilities"].values()) == pytest.approx(1.0, abs=1e-5)
    (tmp_path / "labels.txt").write_text("low hum\nwhistle\n\nhiss\n", encoding="utf-8")
    out = tmp_path / "scores.csv"
    words = ["classify", str(place / "run"), str(tmp_path / "new-hiss.wav"), "--labels", str(tmp_path / "labels.txt")]
    assert run([*words, "--out", str(out), "--prompt", "{} can be heard", "--prompt", "{}"]) == 0
    with out.open() as file:
        (row,) = csv.DictReader(file)
    assert max(("low hum", "whistle", "hiss"), key=lambda label: float(row[label])) == "hiss"
    capsys.readouterr()
    assert run([*words, "--top", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split("  ")[-1].strip().endswith("%)")


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--labels", "one"], "1 label"),
        (["--labels", "a,b,a"], "'a' is there twice"),
        (["--labels", "a,b", "--prompt", "sound"], "has no {}"),
        (["--labels", "a,b", "--out", "nowhere/x.csv"], "there is no folder"),
    ],
)
def test_classify_refuses(place, capsys, more, text):
    assert run(["classify", str(place / "run"), str(place / "hiss-0.wav"), *more]) == 2
    captured = capsys.readouterr()
    assert text in captured.err
    assert "hint: " in captured.err


def test_a_run_without_captions_is_told(place, capsys):
    old = Path(__file__).parents[1] / "fixtures" / "run-0.1"
    assert run(["classify", str(old), str(place / "hiss-0.wav"), "--labels", "a,b"]) == 2
    assert "was not trained beside captions" in capsys.readouterr().err


def test_the_evaluators(place, capsys):
    words = ["evaluate", str(place / "run"), "--task", str(place / "sounds.csv"), "--no-baselines", "--no-untrained"]
    words += ["--evaluator", "zero-shot", "--evaluator", "caption-retrieval", "--json"]
    words += ["--set", "zero-shot.underscores=spaces"]
    assert run(words) == 0
    rows = {row["evaluator"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["zero-shot"]["metric"] == "accuracy"
    assert rows["zero-shot"]["mean"] == 1.0
    assert rows["caption-retrieval"]["metric"] == "text to audio mAP@10"
    assert set(rows["caption-retrieval"]["table"]) == {
        *(f"{way} {name}" for way in ("text to audio", "audio to text") for name in ("R@1", "R@5", "R@10")),
        "audio to text mAP@10",
    }


class Fixed:
    """Cosines by the first sample of a clip and the number in a sentence."""

    sample_rate = 8

    def match_captions(self, waveform, captions, lengths=None):
        numbers = torch.tensor([float(one.split()[-1]) for one in captions])
        return -(waveform[:, :1] - numbers).abs()

    def embed_clip(self, waveform, lengths=None): ...

    def embed_frames(self, waveform, lengths=None): ...


def task(**changes):
    test = np.arange(4)
    values = {
        "name": "numbers",
        "embeddings": np.zeros((4, 0), np.float32),
        "labels": np.array([0, 1, 1, 2]),
        "classes": ("0", "1", "2"),
        "splits": [Split("fold 1", np.zeros(0, int), np.zeros(0, int), test)],
        "encoder": Fixed(),
        "read": lambda clip: np.full(8, [0, 1, 2, 2][clip], np.float32),
        "captions": [("is 0",), ("is 1",), ("is 2", "was 1"), ("is 2",)],
    }
    return ProbeTask(**values | changes)


def test_zero_shot_on_known_cosines():
    found = ZeroShot(ZeroShot.Options(prompts=["it is {}", "{}"]))(task(), seeds=[0, 1])
    assert found.mean == 0.75  # the third clip sounds like 2 and is labelled 1
    assert found.per_seed == [0.75, 0.75]
    with pytest.raises(UsageError, match="not trained beside captions"):
        ZeroShot(ZeroShot.Options())(task(encoder=None), seeds=[0])


def test_caption_retrieval_on_known_cosines():
    found = CaptionRetrieval(CaptionRetrieval.Options(k=[1, 2]))(task(), seeds=[0])
    # Captions: is 0, is 1, is 2, was 1. Clips at 0, 1, 2, 2: "was 1" ranks the clip at 1 first, then clip 0; its own
    # is third. "is 2" has two clips, both first.
    assert found.mean == pytest.approx((1 + 1 + 1 + 0) / 4)
    assert found.table["text to audio R@1"] == 0.75
    # The third clip: "is 2" first, then "is 1", its "was 1" third: R@1 is 1, mAP@2 = (1 / 1) / 2.
    assert found.table["audio to text R@1"] == 1.0
    assert found.table["audio to text mAP@2"] == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    with pytest.raises(DataError, match="1 of 4 test clips have no caption"):
        CaptionRetrieval(CaptionRetrieval.Options())(task(captions=[("a 1",), ("b 1",), ("c 1",), ()]), seeds=[0])


def test_ranking_scores_by_hand():
    cosines = np.array([[0.1, 0.9, 0.5, 0.5]])
    relevant = np.array([[True, False, True, True]])  # ranks: 1 is wrong, 2 and 3 right, 4 right
    found = ranking_scores(cosines, relevant, [1, 3])
    assert found["R@1"][0] == 0.0
    assert found["R@3"][0] == 1.0
    assert found["mAP@3"][0] == pytest.approx((1 / 2 + 2 / 3) / 3)
