"""The optimisers: against torch's own, against the formula, and over a checkpoint."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from ssl_wb.api import build_optimiser
from ssl_wb.errors import PluginError
from ssl_wb_plugins.optimisers.adamw import AdamW
from ssl_wb_plugins.optimisers.lars import Lars
from ssl_wb_plugins.optimisers.muon import Muon
from ssl_wb_plugins.optimisers.sgd import Sgd

KINDS = [AdamW, Sgd, Lars, Muon]


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3))


def groups_of(model):
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    rest = [weight for weight in model.parameters() if weight.dim() == 1]
    return [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]


def train(model, optimizer, steps, first=0):
    losses = []
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(32, 6, generator=generator)
        loss = (model(x) - x[:, :3].sin()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls(kind):
    rate = 1.0 if kind is Lars else 0.01
    model = small_model()
    losses = train(model, kind(kind.Options(lr=rate)).build(groups_of(model)), 60)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_optimiser_goes_on_as_if_it_had_not_stopped(kind):
    model = small_model()
    optimizer = kind(kind.Options(lr=0.01)).build(groups_of(model))
    train(model, optimizer, 5)
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    expected = train(model, optimizer, 5, first=5)
    other = small_model()
    other.load_state_dict(weights)
    restored = kind(kind.Options(lr=0.01)).build(groups_of(other))
    restored.load_state_dict(state)
    assert train(other, restored, 5, first=5) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_learning_rate_of_each_step_is_that_of_the_groups(kind):
    model = small_model()
    optimizer = kind(kind.Options(lr=0.5)).build(groups_of(model))
    before = copy.deepcopy(model.state_dict())
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    train(model, optimizer, 1)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_adamw_and_sgd_are_torchs():
    pairs = [
        (AdamW(AdamW.Options(lr=0.02)), lambda of: torch.optim.AdamW(of, lr=0.02, betas=(0.9, 0.95), eps=1e-8)),
        (Sgd(Sgd.Options(lr=0.02)), lambda of: torch.optim.SGD(of, lr=0.02, momentum=0.9)),
    ]
    for ours, theirs in pairs:
        one, two = small_model(), small_model()
        assert train(one, ours.build(groups_of(one)), 10) == pytest.approx(
            train(two, theirs(groups_of(two)), 10), rel=1e-5
        )


def test_a_step_of_lars_follows_the_formula():
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    bias = nn.Parameter(torch.tensor([1.0]))
    optimizer = Lars(Lars.Options(lr=2.0, momentum=0.5, trust=0.1)).build(
        [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}]
    )
    velocity = torch.zeros(1, 2)
    expected = weight.detach().clone()
    for _ in range(2):
        weight.grad, bias.grad = torch.tensor([[1.0, 0.0]]), torch.tensor([1.0])
        update = weight.grad + 0.1 * expected
        velocity = 0.5 * velocity + 0.1 * expected.norm() / update.norm() * update
        expected = expected - 2.0 * velocity
        optimizer.step()
    torch.testing.assert_close(weight.detach(), expected)
    assert bias.item() == pytest.approx(1.0 - 2.0 * 1.0 - 2.0 * 1.5)


def test_muon_updates_matrices_by_torchs_muon_and_the_rest_by_adamw():
    one, two = small_model(), small_model()
    ours = Muon(Muon.Options(lr=0.02)).build(groups_of(one))
    train(one, ours, 3)
    matrices, rest = groups_of(two)
    parts = [
        torch.optim.Muon([matrices], lr=0.02, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([rest], lr=0.02, betas=(0.9, 0.95), eps=1e-8),
    ]
    for step in range(3):
        x = torch.randn(32, 6, generator=torch.Generator().manual_seed(step))
        loss = (two(x) - x[:, :3].sin()).square().mean()
        two.zero_grad()
        loss.backward()
        for part in parts:
            part.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_an_evaluator_builds_one_by_name():
    model = small_model()
    optimizer = build_optimiser("sgd", groups_of(model), lr=0.5, momentum=0.0)
    assert isinstance(optimizer, torch.optim.SGD)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
    with pytest.raises(PluginError, match="did you mean 'adamw'"):
        build_optimiser("adamv", groups_of(model))
    with pytest.raises(ValidationError):
        build_optimiser("sgd", groups_of(model), lr=-1.0)
