"""Tests of the optimiser."""

from __future__ import annotations

import torch

from ssl_wb.scaffold.templates.optimiser import NewPlugin, NewPluginOptions
from ssl_wb.testing import check_optimiser


def test_it_keeps_the_contract() -> None:
    """Groups, learning rates, state: everything that the workbench asks of an optimiser."""
    check_optimiser(NewPlugin)


def test_it_lowers_a_square() -> None:
    """Some steps on a square lower it."""
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = NewPlugin(NewPluginOptions(lr=0.01)).build([{"params": [weight], "weight_decay": 0.0}])
    for _ in range(20):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert weight.square().sum() < 3.0
