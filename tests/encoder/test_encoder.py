"""The frozen encoder: agreement with published inference, any length, no influence of padding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.errors import UsageError
from ssl_wb_plugins.backbones.vit import Vit, VitOptions
from ssl_wb_plugins.front_ends.log_mel import LogMel


def tiny_vit() -> Vit:
    return Vit(VitOptions(dim=48, depth=3, heads=4), 80)


@pytest.fixture(scope="module")
def encoder() -> FrozenEncoder:
    torch.manual_seed(0)
    return FrozenEncoder(LogMel(LogMel.Options(), -7.0, 4.0), tiny_vit(), 64)


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 40_000), min_size=1, max_size=4), extra=st.integers(0, 20_000))
def test_a_clip_alone_and_in_a_padded_batch_is_the_same(encoder, lengths, extra):
    generator = torch.Generator().manual_seed(sum(lengths))
    waveform = torch.randn(len(lengths), max(lengths) + extra, generator=generator) * 0.1  # noise past the ends too
    batched = encoder.embed_frames(waveform, torch.tensor(lengths))
    clips = encoder.embed_clip(waveform, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        alone = encoder.embed_frames(waveform[row : row + 1, :length])
        count = encoder.columns_of(length)
        assert alone.shape == (1, count, encoder.dim)
        assert_close(batched[row, :count], alone[0], rtol=1e-4, atol=1e-5)
        assert not batched[row, count:].any()
        assert_close(clips[row], alone[0].mean(dim=0), rtol=1e-4, atol=1e-5)


def test_one_waveform_without_batch_axis(encoder):
    waveform = torch.randn(8000)
    assert_close(encoder.embed_clip(waveform), encoder.embed_clip(waveform[None]))


@pytest.mark.parametrize(
    ("waveform", "lengths", "says"),
    [
        (torch.zeros(2, 3, 4), None, "shape (2, 3, 4)"),
        (torch.zeros(1, 0), None, "shape (1, 0)"),
        (torch.full((1, 800), torch.nan), None, "not finite"),
        (torch.zeros(2, 800), torch.tensor([800, 801]), "do not fit"),
        (torch.zeros(2, 800), torch.tensor([800]), "do not fit"),
    ],
)
def test_unusable_waveforms_are_told(encoder, waveform, lengths, says):
    with pytest.raises(UsageError) as caught:
        encoder.embed_frames(waveform, lengths)
    assert says in caught.value.message
    assert caught.value.hint
