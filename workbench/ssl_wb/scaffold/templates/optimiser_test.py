"""Tests of the optimiser."""

from __future__ import annotations

import torch

from ssl_wb.scaffold.templates.optimiser import NewPlugin, NewPluginOptions


def test_it_lowers_a_square() -> None:
    """Some steps on a square lower it."""
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = NewPlugin(NewPluginOptions(lr=0.01)).build([{"params": [weight], "weight_decay": 0.0}])
    for _ in range(20):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert weight.square().sum() < 3.0


def test_groups_keep_their_weight_decay() -> None:
    """The workbench says which parameters are decayed."""
    weights = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    groups = [{"params": [weight], "weight_decay": decay} for weight, decay in zip(weights, (0.05, 0.0), strict=True)]
    built = NewPlugin(NewPluginOptions()).build(groups)
    assert [group["weight_decay"] for group in built.param_groups] == [0.05, 0.0]
