"""Reconstruction of pixels."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from ssl_wb.api import Grid, ModelShapes, StepState
from ssl_wb.plugin.masker import Mask
from ssl_wb.plugin.objective import View
from ssl_wb_plugins.objectives.reconstruction import Reconstruction, ReconstructionOptions


def loss(patches: torch.Tensor, masked: list[int], answer: float, *, norm_patch: bool) -> float:
    """Loss of a predictor that answers the same value for every pixel."""
    cells, pixels = patches.shape[1:]
    objective = Reconstruction(
        ReconstructionOptions(norm_patch=norm_patch), ModelShapes(8, 4, pixels, Grid(1, cells), 1, 10)
    )
    torch.nn.init.zeros_(objective.head.weight)
    torch.nn.init.constant_(objective.head.bias, answer)
    rows = torch.tensor([masked])
    view = View(Mask(rows, rows), torch.zeros(1, 1, 8), patches, features=torch.randn(1, len(masked), 4))
    output = objective(StepState(Grid(1, cells), (view,), 0, 10, measure=True))
    assert output.loss.dtype == torch.float32
    return float(output.loss.detach())


def test_mean_squared_error_of_the_masked_patches_only():
    patches = torch.tensor([[[0.0, 2.0], [5.0, 5.0], [1.0, 3.0]]])
    assert loss(patches, [0, 2], 1.0, norm_patch=False) == pytest.approx((1 + 1 + 0 + 4) / 4)
    assert loss(patches, [1], 1.0, norm_patch=False) == pytest.approx(16.0)


def test_norm_patch_takes_level_and_contrast_of_a_patch_away():
    patches = torch.randn(1, 3, 6)
    plain = loss(patches, [0, 1], 0.3, norm_patch=True)
    assert loss(patches * 4 + 7, [0, 1], 0.3, norm_patch=True) == pytest.approx(plain, rel=1e-4)
    assert abs(loss(patches * 4 + 7, [0, 1], 0.3, norm_patch=False) - plain) > 1


def test_a_perfect_answer_explains_everything():
    patches = torch.randn(1, 4, 3)
    objective = Reconstruction(ReconstructionOptions(), ModelShapes(8, 3, 3, Grid(1, 4), 1, 10))
    with torch.no_grad():
        objective.head.weight.copy_(torch.eye(3))
        objective.head.bias.zero_()
    rows = torch.tensor([[1, 3]])
    view = View(Mask(rows, rows), torch.zeros(1, 1, 8), patches, features=patches[:, [1, 3]])
    output = objective(StepState(Grid(1, 4), (view,), 0, 10, measure=True))
    assert_close(output.loss, torch.tensor(0.0))
    assert output.metrics["explained"] == pytest.approx(1.0)
