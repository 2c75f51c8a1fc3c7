"""Clips embedded from a share of their patches: what is visible counts, and nothing else does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from ssl_wb.api import Backbone, Grid, PluginOptions, gather_rows, visible_count
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.errors import UsageError
from ssl_wb_plugins.backbones.vit import Vit, VitOptions
from ssl_wb_plugins.front_ends.log_mel import LogMel


class Patches(Backbone):
    """Latents that are the patches themselves, behind a prefix token of a large value; keeps what it was asked for."""

    dim, patch, prefix_tokens = 256, (16, 16), 1

    def __init__(self) -> None:
        super().__init__(PluginOptions(), 80, 64)
        self.trunk = nn.Identity()
        self.asked: list[tuple[Grid, torch.Tensor]] = []
        self.whole: list[torch.Tensor] = []

    def embed(self, patches, grid, indices=None):
        self.asked.append((grid, indices))
        self.whole.append(patches)
        return torch.cat([torch.full_like(patches[:, :1], 1e6), gather_rows(patches, indices)], dim=1)


def encoder_of(backbone, chunk=64) -> FrozenEncoder:
    return FrozenEncoder(LogMel(LogMel.Options(), -7.0, 4.0), backbone, chunk)


@pytest.fixture(scope="module")
def encoder() -> FrozenEncoder:
    torch.manual_seed(0)
    return encoder_of(Vit(VitOptions(dim=48, depth=3, heads=4), 80))


def noise(clips, samples):
    return 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(clips + samples))


def test_with_nothing_hidden_it_is_the_clip_embedding_averaged_over_rows(encoder):
    waveform, lengths = noise(3, 30_000), torch.tensor([30_000, 9_000, 400])
    (masked,) = encoder.embed_masked(waveform, lengths, ratios=[0.0], seeds=[5, 6, 7])
    assert_close(masked, encoder.embed_clip(waveform, lengths).unflatten(1, (5, 48)).mean(dim=1), rtol=1e-4, atol=1e-5)


def test_it_is_the_mean_over_the_patches_left_visible_in_every_chunk():
    backbone = Patches()
    encoder = encoder_of(backbone)
    waveform = noise(1, 400 + 160 * (64 + 64 + 16))  # chunks of 4, 4 and 2 columns: a last frame begins a patch
    ratios = [0.5, 0.75, 0.99]
    found = encoder.embed_masked(waveform, ratios=ratios, seeds=[3])  # [3, 1, 256]
    for number, ratio in enumerate(ratios):
        visible, total = 0, torch.zeros(256)
        passes = list(zip(backbone.asked, backbone.whole, strict=True))[number :: len(ratios)]
        assert {grid for (grid, _), _ in passes} == {Grid(5, 4), Grid(5, 2)}
        for (grid, indices), patches in passes:
            assert indices.shape[1] == max(1, visible_count(grid.cells, ratio))
            assert all(len(set(row)) == len(row) for row in indices.tolist())
            visible += indices.numel()
            total += gather_rows(patches, indices).sum(dim=(0, 1))
        assert_close(found[number, 0], total / visible)


def test_chunks_and_clips_have_masks_of_their_own():
    backbone = Patches()
    encoder_of(backbone).embed_masked(noise(2, 400 + 160 * 127), ratios=[0.5], seeds=[1, 2])
    ((grid, indices),) = backbone.asked
    assert grid == Grid(5, 4)
    assert len({tuple(row) for row in indices.tolist()}) == 4


def test_what_a_smaller_share_hides_a_larger_one_hides_too():
    backbone = Patches()
    encoder_of(backbone).embed_masked(noise(1, 400 + 160 * 63), ratios=[0.25, 0.75], seeds=[0])
    (_, few), (_, many) = backbone.asked
    assert set(many[0].tolist()) < set(few[0].tolist())


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 40_000), min_size=1, max_size=4), extra=st.integers(0, 20_000))
def test_a_clip_alone_and_in_a_padded_batch_is_masked_the_same(encoder, lengths, extra):
    waveform = noise(len(lengths), max(lengths) + extra)
    seeds = [11 * row for row in range(len(lengths))]
    batched = encoder.embed_masked(waveform, torch.tensor(lengths), ratios=[0.5, 0.8], seeds=seeds)
    assert batched.shape == (2, len(lengths), 48)
    for row, length in enumerate(lengths):
        alone = encoder.embed_masked(waveform[row, :length], ratios=[0.5, 0.8], seeds=seeds[row : row + 1])
        assert_close(batched[:, row], alone[:, 0], rtol=1e-4, atol=1e-5)


def test_masks_follow_from_the_seed_alone(encoder):
    waveform = noise(1, 16_000).expand(3, -1)
    state = torch.random.get_rng_state()
    (found,) = encoder.embed_masked(waveform, ratios=[0.6], seeds=[4, 5, 4])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_close(found[0], found[2])
    assert not torch.allclose(found[0], found[1], atol=1e-3)


@pytest.mark.parametrize(
    ("ratios", "seeds"), [([1.0], [1, 2]), ([-0.1], [1, 2]), ([], [1, 2]), ([0.5], [1]), ([0.2, 1.5], [1, 2])]
)
def test_what_cannot_be_masked_is_told(encoder, ratios, seeds):
    with pytest.raises(UsageError, match="is not possible") as caught:
        encoder.embed_masked(noise(2, 800), ratios=ratios, seeds=seeds)
    assert caught.value.hint
