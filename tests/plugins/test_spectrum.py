"""Ranks of known spectra, and alignment and uniformity where they can be written down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from probe_tasks import blobs, several
from ssl_wb.api import DataError
from ssl_wb.layers.health import effective_rank
from ssl_wb_plugins.evaluators import spectrum as module
from ssl_wb_plugins.evaluators.spectrum import Spectrum, SpectrumOptions


def measure(task, seeds=(0, 1), **options):
    return Spectrum(SpectrumOptions(**options))(task, seeds)


def with_spectrum(values, rows=60, seed=0):
    """Embeddings ``[rows, D]`` whose columns sum to 0, with the singular values given."""
    random = np.random.default_rng(seed)
    left = random.normal(size=(rows, len(values)))
    left, _ = np.linalg.qr(left - left.mean(axis=0))
    right, _ = np.linalg.qr(random.normal(size=(len(values), len(values))))
    return left @ np.diag(values) @ right.T


def task_of(embeddings):
    task = blobs(clips=len(embeddings))
    return replace(task, embeddings=embeddings.astype(np.float32))


@pytest.mark.parametrize("rank", [1, 3, 10])
def test_equal_singular_values_have_their_number_as_rank(rank):
    embeddings = with_spectrum([2.0] * rank + [0.0] * (10 - rank))
    figures, values = module.ranks(embeddings)
    assert figures["effective rank"] == pytest.approx(rank)
    assert figures["RankMe"] == pytest.approx(rank, rel=1e-4)
    np.testing.assert_allclose(values[:rank], 2.0)
    assert measure(task_of(embeddings)).mean == pytest.approx(rank, rel=1e-3)


def test_the_rank_is_the_exponential_of_the_entropy():
    values = np.array([8.0, 4.0, 2.0, 1.0, 1.0])
    p = values / 16
    expected = float(np.prod(p**-p))
    figures, _ = module.ranks(with_spectrum(values))
    assert figures["effective rank"] == pytest.approx(expected)
    # The workbench's health figure says the same.
    assert figures["effective rank"] == pytest.approx(
        float(effective_rank(torch.from_numpy(with_spectrum(values)))), rel=1e-4
    )


def test_a_common_offset_lowers_rankme_and_not_the_effective_rank():
    embeddings = with_spectrum([1.0] * 8)
    plain, _ = module.ranks(embeddings)
    moved, _ = module.ranks(embeddings + 100.0)
    assert moved["effective rank"] == pytest.approx(plain["effective rank"])
    assert moved["RankMe"] < 1.2


def test_collapsed_embeddings_have_no_rank():
    result = measure(task_of(np.ones((40, 8))))
    assert result.mean == 0.0
    assert result.table["RankMe"] == pytest.approx(1.0, rel=1e-4)
    assert result.table["uniformity"] == pytest.approx(0.0, abs=1e-9)
    assert result.table["alignment (same class)"] == pytest.approx(0.0, abs=1e-9)


def test_explained_variance_comes_sooner_with_fewer_directions():
    few, _ = module.ranks(with_spectrum([1.0] + [1e-3] * 9))
    many, _ = module.ranks(with_spectrum([1.0] * 10))
    assert few["explained variance AUC"] > 0.99
    assert many["explained variance AUC"] < 0.65


def test_alignment_and_uniformity_of_a_square():
    corners = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    # Of six pairs, four are a right angle apart (2) and two opposite (4).
    expected = np.log((4 * np.exp(-4.0) + 2 * np.exp(-8.0)) / 6)
    assert module.uniformity(corners) == pytest.approx(expected)
    assert module.alignment(corners, corners * 5) == pytest.approx(0.0)
    assert module.alignment(corners, -corners) == pytest.approx(4.0)
    assert module.alignment(corners, corners.roll(1, dims=0)) == pytest.approx(2.0)


class HalfEncoder:
    """Embeds a waveform as its mean beside 1, so halves of unlike level lie apart."""

    sample_rate = 16000

    def embed_clip(self, waveform, lengths=None):
        mean = waveform.mean(dim=1)
        return torch.stack([mean, 1 - mean], dim=1)

    def embed_frames(self, waveform, lengths=None):
        raise AssertionError("not asked for")


def test_halves_are_compared_where_audio_is_at_hand():
    like = np.full(1001, 1.0, dtype=np.float32)
    unlike = np.concatenate([np.ones(500), np.zeros(501)]).astype(np.float32)
    task = replace(blobs(clips=40), encoder=HalfEncoder(), read=lambda row: unlike if row < 10 else like)
    result = measure(task)
    # A quarter of the clips have halves at a right angle, squared distance 2.
    assert result.table["alignment (halves)"] == pytest.approx(0.5)
    assert "alignment (same class)" not in result.table


class Hiding(HalfEncoder):
    """Embeds a clip as the number in its first sample says and, of a share hidden, noise of that size by its seed."""

    def __init__(self, embeddings):
        self.embeddings, self.seeds = torch.from_numpy(embeddings), []

    def embed_clip(self, waveform, lengths=None):
        return self.embeddings[waveform[:, 0].long()]

    def embed_masked(self, waveform, lengths=None, *, ratios, seeds):
        self.seeds += seeds
        whole = self.embed_clip(waveform)
        noise = [torch.randn(whole.shape[1], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack([whole + ratio * torch.stack(noise) for ratio in ratios])


def hiding(rows=300, rank=3):
    embeddings = with_spectrum([30.0] * rank + [0.0] * (12 - rank), rows=rows)
    encoder = Hiding(embeddings)
    read = lambda row: np.array([row, row, row, row], dtype=np.float32)  # noqa: E731
    return encoder, replace(task_of(embeddings), encoder=encoder, read=read)


def test_hidden_patches_are_measured_beside_nothing_hidden():
    encoder, task = hiding()
    result = measure(task, ratios=[0.5, 0.0])
    assert result.mean == pytest.approx(3.0, rel=1e-4)
    assert result.table["effective rank, 0 % hidden"] == pytest.approx(3.0, rel=1e-4)
    noise = np.stack([torch.randn(12, generator=torch.Generator().manual_seed(row)).numpy() for row in range(300)])
    expected, _ = module.ranks(task.embeddings + 0.5 * noise.astype(np.float64))
    assert result.table["effective rank, 50 % hidden"] == pytest.approx(expected["effective rank"], rel=1e-3)
    assert result.table["RankMe, 50 % hidden"] == pytest.approx(expected["RankMe"], rel=1e-3)
    # Both halves of a clip are the clip itself here, and each has a mask of its own.
    assert result.table["alignment (halves), 0 % hidden"] == pytest.approx(0.0, abs=1e-6)
    assert result.table["alignment (halves), 50 % hidden"] > 0.01
    assert result.table["uniformity, 50 % hidden"] < result.table["uniformity, 0 % hidden"]
    assert len(set(encoder.seeds)) == len(encoder.seeds) == 300 + 2 * 128
    assert result.detail["hidden"]["share"] == [0.0, 0.5]
    ranks = [result.table[f"effective rank, {share} % hidden"] for share in (0, 50)]
    assert result.detail["hidden"]["effective rank"] == ranks
    assert [max(values) for values in result.detail["hidden"]["singular values"]] == [1.0, 1.0]


def test_masks_are_drawn_by_the_first_seed():
    _, task = hiding()
    first, again, other = (measure(task, seeds=seeds).table for seeds in ((0, 1), (0,), (1,)))
    assert first == again
    assert first["effective rank, 75 % hidden"] != other["effective rank, 75 % hidden"]
    assert first["effective rank, 0 % hidden"] == other["effective rank, 0 % hidden"]


def test_encoders_that_cannot_hide_have_no_rows_and_a_note_says_so():
    encoder, task = hiding()
    for found in (measure(task, ratios=[]), measure(replace(task, encoder=HalfEncoder())), measure(blobs())):
        assert not any("hidden" in name for name in found.table)
        assert "hidden" not in found.detail
    assert encoder.seeds == []
    assert not any("hidden" in note for note in measure(task, ratios=[]).notes)
    assert any("no rows with patches hidden" in note for note in measure(blobs()).notes)


def test_clips_of_one_class_are_compared_without_audio():
    tight, loose = measure(blobs(spread=0.01)), measure(blobs(spread=3.0))
    assert tight.table["alignment (same class)"] < 0.01 < loose.table["alignment (same class)"]
    result = measure(several())
    assert not any(name.startswith("alignment") for name in result.table)
    assert any("no alignment" in note for note in result.notes)


def test_many_clips_are_drawn_by_the_seed():
    task = blobs(clips=300)
    some = measure(task, clips=100)
    assert some.per_seed[0] != some.per_seed[1]
    assert measure(task, clips=100).per_seed == some.per_seed
    every = measure(task)
    assert every.per_seed[0] == every.per_seed[1]
    assert not every.percent
    assert np.isnan(every.interval).all()


def test_a_rank_bounded_by_the_clips_is_said():
    assert any("bounded by 10 clips" in note for note in measure(blobs(clips=10)).notes)
    with pytest.raises(DataError, match="needs two clips"):
        measure(task_of(np.ones((1, 8))))


@pytest.mark.parametrize("options", [{"clips": 1}, {"pairs": 0}, {"rank": 3}, {"ratios": [1.0]}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        SpectrumOptions(**options)
