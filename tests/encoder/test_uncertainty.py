"""How far apart the hypotheses lie, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from torch.testing import assert_close

from ssl_wb.cli.main import run
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.files import embed_clips, gather_clips
from ssl_wb.encoder.load import load_encoder
from ssl_wb.encoder.uncertainty import UncertaintyModel, covering_masks, load_uncertainty
from ssl_wb.errors import UsageError
from ssl_wb.plugin.masker import Grid, visible_count
from ssl_wb.workflows.pretrain import train

RECIPE = """
seed = 3
[data]
train = "{data}"
clip_seconds = 0.8
workers = 0
[masker]
name = "random"
ratio = 0.6
[backbone]
name = "vit"
dim = 16
depth = 1
heads = 2
[predictor]
dim = 16
depth = 1
heads = 2
[[objective]]
name = "{objective}"
[optimizer]
lr = 1e-3
[train]
steps = 4
batch_size = 4
precision = "fp32"
"""


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """Four clips of a tone in noise, 0.5 to 2 s: one chunk of the crop, or several."""
    folder = tmp_path_factory.mktemp("audio")
    random = np.random.default_rng(0)
    for number, seconds in enumerate((0.5, 0.9, 1.3, 2.0)):
        time = np.arange(int(16000 * seconds)) / 16000
        wave = 0.3 * np.sin(2 * np.pi * 300 * (number + 1) * time) + 0.05 * random.standard_normal(len(time))
        soundfile.write(folder / f"{number}.wav", wave, 16000)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory, audio):
    """One trained run with several hypotheses, and one without."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("mcl", "malap"):
        (folder / f"{name}.toml").write_text(RECIPE.format(data=audio, objective=name))
        train(folder / f"{name}.toml", out=folder / name, quiet=True, cpu=True)
    return folder


@pytest.fixture
def model(runs) -> UncertaintyModel:
    return load_uncertainty(runs / "mcl")


@pytest.fixture(scope="module")
def waveform() -> torch.Tensor:
    return 0.1 * torch.randn(2, 24_000, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("grid", [Grid(1, 2), Grid(5, 1), Grid(5, 5), Grid(5, 38), Grid(1, 7)])
@pytest.mark.parametrize("ratio", [0.05, 0.6, 0.7, 0.95])
def test_the_masks_hide_every_patch_and_about_equally_often(grid, ratio):
    masks = list(covering_masks(grid, ratio, torch.device("cpu")))
    visible = min(max(1, visible_count(grid.cells, ratio)), grid.cells - 1)
    for mask in masks:
        assert mask.visible.shape == (1, visible)
        assert torch.cat([mask.visible, mask.masked], dim=1).sort().values.tolist() == [list(range(grid.cells))]
    times = torch.bincount(torch.cat([mask.masked[0] for mask in masks]), minlength=grid.cells)
    assert times.min() >= 1
    assert times.max() - times.min() <= max(2, len(masks) // 4)


def test_one_value_for_each_frame_of_the_embedding(model, runs, waveform):
    assert model.ratio == 0.6
    frames = model.frames(waveform)
    embedded = load_encoder(runs / "mcl").embed_frames(waveform)
    assert frames.shape == embedded.shape[:2]
    assert frames.dtype == torch.float32
    assert torch.isfinite(frames).all()
    assert (frames > 0).all()
    assert (frames <= 4).all()
    assert frames.std() > 0  # it tells frames apart
    assert_close(model.encoder.embed_frames(waveform), embedded)  # of the trained student, as without


def test_it_repeats_itself_whatever_the_batch_and_the_random_numbers(model, runs, waveform):
    state = torch.random.get_rng_state()
    frames = model.frames(waveform, torch.tensor([24_000, 9_000]))
    assert torch.equal(frames, load_uncertainty(runs / "mcl").frames(waveform, torch.tensor([24_000, 9_000])))
    assert torch.equal(torch.random.get_rng_state(), state)
    alone = model.frames(waveform[1, :9_000])[0]
    assert_close(frames[1, : len(alone)], alone)
    assert not frames[1, len(alone) :].any()
    assert_close(frames[:1], model.frames(waveform[:1]))


def test_equal_hypotheses_are_certain(model, waveform):
    heads = model.objectives["mcl"].heads
    with torch.no_grad():
        heads.weight.copy_(heads.weight.chunk(5)[0].repeat(5, 1))
        heads.bias.copy_(heads.bias.chunk(5)[0].repeat(5))
    assert model.frames(waveform).abs().max() < 1e-10


def test_a_frame_is_the_mean_over_rows_and_passes_of_what_the_objective_says(model, monkeypatch):
    """An objective that answers with the row of each masked patch, in the first pass with 10 more."""
    calls = []

    def answer(view):
        calls.append(view)
        return (view.mask.masked // 3).float() + (10.0 if len(calls) == 1 else 0.0)

    monkeypatch.setattr(model.objectives["mcl"], "uncertainty", answer)
    (frames,) = model._read(torch.randn(2, 15, 256), Grid(5, 3))
    first = torch.zeros(15)
    times = torch.zeros(15)
    for view in calls:
        times[view.mask.masked[0]] += 1
        assert view.patches.shape == (2, 15, 256)
        assert view.latents.shape == (2, view.mask.visible.shape[1], 16)
        assert view.features.shape == (2, view.mask.masked.shape[1], 16)
    first[calls[0].mask.masked[0]] = 10.0
    expected = (2.0 + (first / times).view(5, 3).mean(dim=0)).expand(2, -1)
    assert_close(frames[:, :, 0], expected)


@pytest.mark.parametrize("class_token", [True, False])
def test_a_lone_patch_is_predicted_from_nothing(tmp_path, audio, class_token, waveform):
    recipe = tmp_path / "rows.toml"
    recipe.write_text(RECIPE.format(data=audio, objective="mcl"))
    wide = ["backbone.patch=[80,16]", f"backbone.class_token={str(class_token).lower()}", "train.steps=1"]
    model = load_uncertainty(train(recipe, out=tmp_path / "run", quiet=True, cpu=True, overrides=wide))
    frames = model.frames(waveform[:1, : 400 + 160 * 80])  # a chunk of 5 patches, and one of 1
    assert frames.shape == (1, 6)
    assert torch.isfinite(frames).all()


def test_a_run_without_hypotheses_is_told_what_is_needed(runs, tmp_path, audio, capsys):
    with pytest.raises(UsageError, match="malap"):
        load_uncertainty(runs / "malap")
    out = tmp_path / "x.npz"
    assert run(["embed", str(runs / "malap"), str(audio), "--out", str(out), "--uncertainty", "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert "'mcl'" in said
    assert "Traceback" not in said
    assert not out.exists()


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_embed_writes_a_column_more(runs, tmp_path, audio, ending, model):
    columns = {}
    for level in ("frames", "clip"):
        out = tmp_path / f"{level}.{ending}"
        words = ["embed", str(runs / "mcl"), str(audio), "--out", str(out), "--level", level, "--device", "cpu"]
        assert run([*words, "--uncertainty"]) == 0
        columns[level] = read(out)
        assert run([*words, "--overwrite"]) == 0
        plain = read(out)
        assert plain.keys() == {"path", "time", "embedding"}
        for name, values in plain.items():
            assert np.array_equal(values, columns[level][name])
    frames, clips = columns["frames"], columns["clip"]
    assert frames["uncertainty"].dtype == np.float32
    assert frames["uncertainty"].shape == frames["time"].shape
    means = [frames["uncertainty"][frames["path"] == path].mean() for path in clips["path"]]
    np.testing.assert_allclose(clips["uncertainty"], means, rtol=1e-5)
    wave, _ = soundfile.read(audio / "3.wav", dtype="float32")
    own = frames["uncertainty"][frames["path"] == str(audio / "3.wav")]
    np.testing.assert_allclose(own, model.frames(torch.from_numpy(wave))[0].numpy(), rtol=1e-4)


def read(path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        with np.load(path) as archive:
            return dict(archive)
    from pyarrow import parquet

    table = parquet.read_table(path)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    types = {"embedding": np.float32, "uncertainty": np.float32}
    if "uncertainty" in columns:
        assert str(table.schema.field("uncertainty").type) == "float"
    return {name: np.array(values, dtype=types.get(name)) for name, values in columns.items()}


def test_progress_counts_skipped_files_too(runs, tmp_path, audio):
    for name, text in (("a.wav", None), ("b.wav", b"no audio"), ("c.wav", None), ("d.wav", b"neither")):
        (tmp_path / name).write_bytes(text or (audio / "0.wav").read_bytes())
    done: list[int] = []
    encoder: FrozenEncoder = load_encoder(runs / "mcl")
    embeddings = embed_clips(encoder, gather_clips([tmp_path]), progress=done.append)
    assert done == [1, 2, 3, 4]
    assert len(embeddings.skipped) == 2
    assert embeddings.uncertainty is None
