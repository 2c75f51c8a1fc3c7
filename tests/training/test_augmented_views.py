"""Augmentation and captions reach the model, in whole runs."""

from __future__ import annotations

import json

import pytest
import torch

from ssl_wb.errors import RecipeError
from ssl_wb.pretext.model import PretextModel
from ssl_wb.workflows.pretrain import train

TWO_VIEWS = [
    "masker.views=2",
    'data.augment=[{name = "gain-beta"}, {name = "add-gaussian-snr", p = 1.0}, {name = "time-stretch"}]',
    "train.steps=4",
]


@pytest.fixture
def given(monkeypatch):
    """Spectrograms and captions of every step."""
    seen: list[tuple[torch.Tensor, torch.Tensor | None]] = []
    forward = PretextModel.forward

    def watched(self, inputs):
        seen.append((inputs.spectrogram.clone(), inputs.captions))
        return forward(self, inputs)

    monkeypatch.setattr(PretextModel, "forward", watched)
    return seen


def test_each_view_has_its_own_version_and_workers_change_none(recipe, tmp_path, given):
    train(recipe, out=tmp_path / "a", quiet=True, overrides=TWO_VIEWS)
    train(recipe, out=tmp_path / "b", quiet=True, overrides=[*TWO_VIEWS, "data.workers=2"])
    assert len(given) == 8
    for (one, captions), (two, _) in zip(given[:4], given[4:], strict=True):
        assert captions is None
        assert one.shape[:2] == (8, 2)
        assert not torch.equal(one[:, 0], one[:, 1])
        assert torch.equal(one, two)


def test_statistics_are_of_the_data_without_augmentation(recipe, tmp_path, given):
    plain = train(recipe, out=tmp_path / "a", quiet=True, overrides=["train.steps=1"])
    loud = 'data.augment=[{name = "gain", min_gain_db = 12.0, p = 1.0}]'
    changed = train(recipe, out=tmp_path / "b", quiet=True, overrides=["train.steps=1", loud])
    assert [spectrogram.dim() for spectrogram, _ in given] == [3, 3]
    values = [json.loads((run / "statistics.json").read_text())["mean"] for run in (plain, changed)]
    assert values[0] == values[1]
    assert given[1][0].mean() > given[0][0].mean() + 0.3


def test_captions_reach_the_model(recipe, corpus, tmp_path, given):
    (tmp_path / "m.csv").write_text(
        "\n".join(["path,label", *(f"{path},tone {path.stem}" for path in sorted(corpus.glob("*.wav")))])
    )
    captions = 'data.captions={source = "label", encoder = "hashing", dim = 512}'
    train(recipe, out=tmp_path / "a", quiet=True, overrides=[f"data.train={tmp_path}/m.csv", captions, "train.steps=2"])
    for _, captions in given:
        assert captions.shape == (8, 512)
        assert len({tuple(row.tolist()) for row in captions}) == 8  # another caption for each clip


def test_what_cannot_be_is_said_before_the_run_folder_is_made(recipe, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(RecipeError, match="20 of 20 clips have no caption"):
        train(recipe, out=run, quiet=True, overrides=["data.captions.dim=8", "data.captions.encoder=hashing"])
    wrong = 'data.augment=[{name = "time-stretch", min_rate = 2.0, max_rate = 1.5}]'
    with pytest.raises(RecipeError, match="min_rate must not be greater than max_rate"):
        train(recipe, out=run, quiet=True, overrides=[wrong])
    assert not run.exists()
