"""Tests of the objective."""

from __future__ import annotations

import torch

from ssl_wb.api import Grid, Mask, ModelShapes, StepState, View
from ssl_wb.scaffold.templates.objective import NewPlugin, NewPluginOptions

GRID = Grid(2, 5)
SHAPES = ModelShapes(latent_dim=8, feature_dim=6, patch_pixels=4, grid=GRID, views=1, total_steps=10)


def step(features: torch.Tensor, target: torch.Tensor) -> StepState:
    """Return a step of 3 clips: 4 visible and 6 masked patches."""
    mask = Mask(torch.arange(4).expand(3, -1), torch.arange(4, 10).expand(3, -1))
    latents, patches = torch.zeros(3, 4, 8), torch.zeros(3, 10, 4)  # [B, Nv, D], [B, N, P]
    view = View(mask, latents, patches, features=features, target=target)
    return StepState(GRID, (view,), step=0, total_steps=10)


def test_the_loss_is_a_finite_float32_scalar() -> None:
    """Silence and noise have a finite loss."""
    objective = NewPlugin(NewPluginOptions(), SHAPES)
    for scale in (0.0, 1.0):
        loss = objective(step(scale * torch.randn(3, 6, 6), scale * torch.randn(3, 6, 8))).loss
        assert loss.dtype == torch.float32
        assert loss.shape == ()
        assert loss.isfinite()


def test_gradients_reach_every_parameter_and_the_features() -> None:
    """A parameter without gradient would stop training on several processes."""
    objective = NewPlugin(NewPluginOptions(), SHAPES)
    features, target = torch.randn(3, 6, 6, requires_grad=True), torch.randn(3, 6, 8)
    objective(step(features, target)).loss.backward()
    assert features.grad is not None
    assert all(each.grad is not None for each in objective.parameters())
