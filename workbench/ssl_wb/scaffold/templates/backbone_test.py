"""Tests of the backbone."""

from __future__ import annotations

import pytest
import torch

from ssl_wb.scaffold.templates.backbone import NewPlugin, NewPluginOptions


def test_shapes_for_any_length_and_any_patches() -> None:
    """Tokens and latents are [B, K, D], also for clips of other lengths and for some of the patches."""
    backbone = NewPlugin(NewPluginOptions(), n_mels=80, frames=112)
    for frames in (112, 400):
        grid = backbone.grid_of(frames)
        patches = torch.randn(2, grid.cells, 256)  # [B, N, P]
        some = torch.arange(0, grid.cells, 3).expand(2, -1)  # [B, K]
        for indices, count in ((None, grid.cells), (some, some.shape[1])):
            tokens = backbone.embed(patches, grid, indices)
            assert tokens.shape == (2, backbone.prefix_tokens + count, backbone.dim)
            assert backbone(tokens).shape == tokens.shape
            assert backbone(tokens).isfinite().all()


def test_layers_end_with_the_latents() -> None:
    """There is one output per block, and the last one is that of forward."""
    backbone = NewPlugin(NewPluginOptions(depth=3), n_mels=80, frames=112).eval()
    tokens = torch.randn(2, 7, backbone.dim)  # [B, K, D]
    outputs = backbone.layers(tokens)
    assert len(outputs) == 3
    assert torch.allclose(outputs[-1], backbone(tokens))
    with pytest.raises(ValueError, match="4"):
        backbone.trunk.layers(tokens, 4)


def test_gradients_reach_every_parameter() -> None:
    """A parameter without gradient would stop training on several processes."""
    backbone = NewPlugin(NewPluginOptions(), n_mels=80, frames=112)
    grid = backbone.grid_of(112)
    backbone(backbone.embed(torch.randn(2, grid.cells, 256), grid)).square().sum().backward()
    assert all(each.grad is not None for each in backbone.parameters())


def test_it_can_be_traced_without_memory() -> None:
    """The command ``ssl-wb validate`` computes sizes on torch's meta device."""
    with torch.device("meta"):
        backbone = NewPlugin(NewPluginOptions(), n_mels=80, frames=112)
    grid = backbone.grid_of(112)
    patches = torch.zeros(1, grid.cells, 256, device="meta")  # [B, N, P]
    assert backbone(backbone.embed(patches, grid)).device.type == "meta"
