"""The small shared pieces."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from ssl_wb.layers.attention import attention
from ssl_wb.layers.ema import ema_update, linear_schedule
from ssl_wb.layers.health import direction_std, effective_rank, feature_std
from ssl_wb.layers.patches import gather_rows, patchify
from ssl_wb.layers.positions import sincos_2d
from ssl_wb.plugin.base import steps_of
from ssl_wb.plugin.masker import Grid, Mask, visible_count


def test_patches_are_frequency_major_with_rows_first():
    spectrogram = torch.arange(6 * 8).float().view(1, 6, 8)
    patches = patchify(spectrogram, (3, 2))  # grid 2 x 4
    assert patches.shape == (1, 8, 6)
    assert_close(patches[0, 5], spectrogram[0, 3:6, 2:4].flatten())  # f = 1, t = 1


def test_what_is_left_over_of_a_patch_is_cut():
    spectrogram = torch.randn(2, 7, 9)
    assert_close(patchify(spectrogram, (3, 2)), patchify(spectrogram[:, :6, :8], (3, 2)))


def test_rows_are_gathered_clip_by_clip_and_from_one_table():
    rows = torch.randn(2, 5, 3)
    indices = torch.tensor([[4, 0], [1, 2]])
    assert_close(gather_rows(rows, indices), torch.stack([rows[0, [4, 0]], rows[1, [1, 2]]]))
    assert_close(gather_rows(rows[:1], indices), torch.stack([rows[0, [4, 0]], rows[0, [1, 2]]]))


def test_a_shorter_clip_has_the_first_columns_of_a_longer_ones_positions():
    long, short = sincos_2d(Grid(3, 9), 16).view(3, 9, 16), sincos_2d(Grid(3, 4), 16).view(3, 4, 16)
    assert_close(long[:, :4], short)
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_2d(Grid(1, 1), 6)


def test_attention_is_softmax_of_scaled_products_in_both_precisions():
    q, k, v = torch.randn(3, 2, 4, 7, 8).unbind()
    expected = (q @ k.transpose(-2, -1) / math.sqrt(8)).softmax(-1) @ v
    assert_close(attention(q, k, v), expected, rtol=1e-5, atol=1e-5)
    half = attention(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert half.dtype == torch.bfloat16
    assert_close(half.float(), expected, rtol=3e-2, atol=3e-2)


@given(st.integers(1, 600), st.floats(0.0, 0.99))
def test_visible_count_is_the_floor_of_what_is_not_masked(cells, ratio):
    count = visible_count(cells, ratio)
    assert 0 <= count <= cells
    assert abs(count - cells * (1 - ratio)) < 1


@pytest.mark.parametrize(
    ("cells", "ratio", "count"), [(190, 0.7, 57), (65, 0.75, 16), (190, 0.75, 47), (512, 0.8, 102)]
)
def test_visible_counts_of_the_papers(cells, ratio, count):
    assert visible_count(cells, ratio) == count


def test_a_mask_from_scores_keeps_the_lowest():
    mask = Mask.from_scores(torch.tensor([[0.3, 0.1, 0.9, 0.2]]), 2)
    assert mask.visible.tolist() == [[1, 3]]
    assert mask.masked.tolist() == [[0, 2]]


def test_durations_count_steps_or_shares():
    assert steps_of(30, 100) == 30
    assert steps_of(0.25, 100) == 25
    assert steps_of(1.0, 100) == 100
    assert steps_of(1, 100) == 1


def test_ema_moves_towards_the_source():
    average, source = nn.Linear(2, 2), nn.Linear(2, 2)
    before = average.weight.clone()
    ema_update(average, source, 0.9)
    assert_close(average.weight, 0.9 * before + 0.1 * source.weight)


def test_schedules_stay_at_their_end():
    assert linear_schedule(0.0, 1.0, 5, 10) == 0.5
    assert linear_schedule(0.0, 1.0, 20, 10) == 1.0
    assert linear_schedule(0.0, 1.0, 0, 0) == 1.0


def test_spread_of_equal_rows_is_nothing_and_of_random_directions_about_one():
    assert feature_std(torch.ones(10, 4)) == 0
    assert direction_std(torch.ones(10, 4) * torch.rand(10, 1)) < 1e-3
    assert direction_std(torch.randn(5000, 64)) == pytest.approx(1.0, abs=0.02)


def test_effective_rank_counts_directions():
    basis = torch.linalg.qr(torch.randn(32, 32)).Q
    rows = torch.randn(4000, 5) @ basis[:5]
    assert effective_rank(rows) == pytest.approx(5.0, abs=0.1)
    assert effective_rank(torch.randn(4000, 1) @ basis[:1]) == pytest.approx(1.0, abs=0.05)
    assert effective_rank(torch.ones(50, 8)) == 0


def test_effective_rank_of_directions_of_all_sizes_is_numpys():
    # In float32 the Gram matrix of such rows loses the small directions.
    rows = torch.randn(600, 12, generator=torch.Generator().manual_seed(0)) * 10.0 ** -torch.arange(12)
    rows = rows @ torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1)))[0]
    exact = rows.double().numpy()
    p = np.linalg.svd(exact - exact.mean(axis=0), compute_uv=False)
    p /= p.sum()
    assert float(effective_rank(rows)) == pytest.approx(np.exp(-(p * np.log(p + 1e-12)).sum()), rel=1e-6)


def test_effective_rank_of_a_collapsed_representation_is_one_under_autocast_too():
    rows = torch.randn(2000, 1) @ torch.randn(1, 192)
    with torch.autocast("cpu", torch.bfloat16):
        assert effective_rank(rows) < 1.5
