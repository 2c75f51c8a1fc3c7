"""Blocks that compute their last tokens only: the same numbers, fewer operations."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from ssl_wb.layers.attention import packed_attention, split_attention
from ssl_wb.layers.transformer import Block
from ssl_wb.plugin.masker import Grid, Mask
from ssl_wb.pretext.predictor import Predictor
from ssl_wb.recipe.schema import PredictorSection


def gradients(module):
    return {name: parameter.grad for name, parameter in module.named_parameters()}


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("key_bias", [True, False])
def test_a_blocks_last_tokens_are_those_of_the_whole_block(key_bias, recomputed):
    torch.manual_seed(0)
    block = Block(32, 4, key_bias=key_bias)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    block.recomputed = recomputed
    scales = torch.rand(2, 3, 1, 1)
    tokens = torch.randn(3, 11, 32, requires_grad=True)
    whole = block(tokens, scales)[:, -4:]
    whole.square().sum().backward()
    expected, of_tokens = gradients(block), tokens.grad
    block.zero_grad(set_to_none=True)
    tokens.grad = None
    some = block(tokens, scales, last=4)
    assert_close(some, whole)
    some.square().sum().backward()
    assert_close(tokens.grad, of_tokens, rtol=1e-4, atol=1e-4)
    for name, value in gradients(block).items():
        assert_close(value, expected[name], rtol=1e-4, atol=1e-3, msg=name)
    assert_close(block(tokens, scales, last=11), block(tokens, scales))


def test_attention_in_two_parts_is_attention_in_one():
    qkv = torch.randn(2, 7, 3, 4, 8)
    assert_close(split_attention(*qkv.unbind(2))[:, -3:], packed_attention(qkv)[:, -3:])
    query, key, value = qkv.unbind(2)
    assert_close(split_attention(query[:, -3:], key, value), packed_attention(qkv)[:, -3:])


@pytest.mark.parametrize("depth", [1, 3])
def test_a_predictor_gives_what_all_of_its_last_block_would(depth):
    torch.manual_seed(1)
    predictor = Predictor(PredictorSection(dim=32, depth=depth, heads=4), latent_dim=24, prefix_tokens=1)
    grid = Grid(4, 5)
    order = torch.argsort(torch.rand(2, grid.cells), dim=1)
    mask = Mask(order[:, :6], order[:, 6:])
    latents = torch.randn(2, 7, 24)
    with FlopCounterMode(display=False) as fewer:
        got = predictor(latents, mask, grid)
    last = predictor.blocks[-1]
    plain = last.forward
    last.forward = lambda tokens, last: plain(tokens)[:, -last:]
    with FlopCounterMode(display=False) as all_of_it:
        expected = predictor(latents, mask, grid)
    assert_close(got, expected)
    # Of the 7 known tokens of 21: one of the three projections, the output's, and the MLP.
    saved = 2 * 2 * 7 * (32 * 32 + 32 * 32 + 2 * 32 * 128)
    attention = 2 * 2 * 2 * 7 * 21 * 32
    # torch has no formula for the CPU's own attention kernel.
    assert all_of_it.get_total_flops() - fewer.get_total_flops() in (saved, saved + attention)
