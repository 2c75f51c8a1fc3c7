"""Cases of audio files, folders and manifests; each test is named after the folder of its case."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from fast_run import TRAIN

import ssl_wb as library
from ssl_wb.audio.decode import info, read


def rows_of(file):
    with np.load(file) as archive:
        return dict(archive)


def test_absurd_float_sample(case, base, a_run, ssl_wb):
    shutil.copy(case("absurd-float-sample") / "huge.wav", base)
    code, _, err = ssl_wb("embed", a_run, base, "--out", "o.npz")
    assert (code, len(rows_of("o.npz")["path"])) == (0, 24)
    assert "huge.wav: has a sample of" in err
    code, _, err = ssl_wb(*TRAIN, "--set", f"data.train={base}", "--out", "r")
    assert code == 0
    assert "huge.wav: has a sample of" in err


@pytest.mark.parametrize("name", ["noise_first", "quiet_first"])
def test_vbr_mp3_without_xing(case, name):
    path = case("vbr-mp3-without-xing") / f"{name}.mp3"
    assert info(path).seconds == pytest.approx(10.08, abs=0.01)
    assert len(read(path, 16000, start=8.0, duration=1.0)) == 16000


def test_ffmpeg_piped_flac(case, a_run, ssl_wb):
    path = case("ffmpeg-piped-flac") / "f0.flac"
    assert len(read(path, 16000)) == info(path).frames == 32000
    assert ssl_wb("embed", a_run, path, "--out", "o.npz")[0] == 0


@pytest.mark.parametrize(("name", "said"), [("rate1", "1 samples per second"), ("rate2g", "2147483647 samples per")])
def test_header_sample_rate(case, base, a_run, ssl_wb, name, said):
    shutil.copy(case("header-sample-rate") / f"{name}.wav", base)
    for command in (["embed", a_run, base, "--out", "o.npz"], [*TRAIN, "--set", f"data.train={base}", "--out", "r"]):
        code, _, err = ssl_wb(*command)
        assert code == 0
        assert f"{name}.wav: its header says {said}" in err


@pytest.mark.parametrize(("name", "meant"), [("seg_offset", "start"), ("seg_end", "duration")])
def test_manifest_offset_or_end(case, base, a_run, ssl_wb, name, meant):
    manifest = case("manifest-offset-or-end") / f"{name}.csv"
    for line in manifest.read_text().splitlines()[1:]:
        path = manifest.parent / line.split(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(base / "c00.wav", path)
    assert f"did you mean {meant!r}" in ssl_wb("embed", a_run, manifest, "--out", "o.npz")[2]


def test_folder_with_other_formats(case, base, a_run, ssl_wb):
    folder = case("folder-with-other-formats")
    shutil.copy(base / "c00.wav", folder)
    for command in (
        ["embed", a_run, folder, "--out", "o.npz"],
        ["validate", "quickstart", "--set", f"data.train={folder}"],
    ):
        code, _, err = ssl_wb(*command)
        assert code == 0
        assert "4 file(s) in formats that are not read are left out (1 .aac, 1 .m4a, 1 .webm, 1 .wma)" in err


def test_one_too_short(case, a_run, ssl_wb):
    transformers = pytest.importorskip("transformers")
    folder = case("one-too-short")
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "num_hidden_layers": 1}
    config = transformers.Wav2Vec2Config(
        conv_dim=[8] * 7, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, **sizes
    )
    transformers.Wav2Vec2Model(config).save_pretrained("model")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained("model")
    code, _, err = ssl_wb("embed", "hf:model", folder, "--out", "o.npz")
    assert "c17.wav" in err
    assert (code, len(rows_of("o.npz")["path"])) == (0, 23)
    code, _, err = ssl_wb("evaluate", "hf:model", "--task", folder / "t.csv", "--no-baselines", "--seeds", "1")
    assert code == 2
    assert "c17.wav" in err


def test_partly_readable_resume(case, base, ssl_wb):
    broken = case("partly-readable-resume") / "t1.flac"
    for index in range(1, 6):
        shutil.copy(broken, base / f"t{index}.flac")
    command = [*TRAIN, "--set", f"data.train={base}", "--set", "train.steps=30", "--set", "train.log_every=1"]
    losses = []
    for workers in (0, 2):
        assert ssl_wb(*command, "--set", f"data.workers={workers}", "--out", f"r{workers}")[0] == 0
        lines = Path(f"r{workers}/metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[0] == losses[1]
    assert len(json.loads(Path("r0/unreadable.json").read_text())) == 5


def test_stale_statistics_of_a_manifest(case, base, ssl_wb):
    case("stale-statistics-of-a-manifest")
    Path("m2.csv").write_text("path\n" + "\n".join(f"base/{path.name}" for path in sorted(base.iterdir())))
    means = []
    for name in ("a", "b"):
        assert ssl_wb(*TRAIN, "--set", "data.train=m2.csv", "--out", name)[0] == 0
        means.append(json.loads(Path(name, "statistics.json").read_text())["mean"])
        for path in base.iterdir():
            samples, rate = soundfile.read(path)
            soundfile.write(path, 0.01 * samples, rate)
    assert means[1] < means[0] - 5


def test_int16_waveform(case, a_run):
    case("int16-waveform")
    encoder = library.load_encoder(a_run)
    clip = 0.1 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))  # [1, S]
    plain, scaled = encoder.embed_clip(clip), encoder.embed_clip((clip * 32767).to(torch.int16))
    assert torch.cosine_similarity(plain, scaled).item() > 0.999
    torch.testing.assert_close(encoder.embed_clip(clip.numpy()), plain)
