"""Tests of the backbone."""

from __future__ import annotations

import torch

from ssl_wb.scaffold.templates.backbone import NewPlugin, NewPluginOptions
from ssl_wb.testing import check_backbone


def test_it_keeps_the_contract() -> None:
    """Shapes, lengths, gradients, precision, state, devices: everything that the workbench asks of a backbone."""
    check_backbone(NewPlugin, {"dim": 32})


def test_a_patch_sees_the_others() -> None:
    """The mean of all patches is the context of each; replace this by what your idea promises."""
    backbone = NewPlugin(NewPluginOptions(), n_mels=80, frames=112).eval()
    grid = backbone.grid_of(112)
    patches = torch.randn(1, grid.cells, 256)  # [B, N, P]
    changed = patches.clone()
    changed[:, -1] += 1.0
    first, second = (backbone(backbone.embed(one, grid))[:, 0] for one in (patches, changed))
    assert not torch.allclose(first, second)
