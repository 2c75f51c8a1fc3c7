"""Initial weights of the ViT: those of MAE, of timm, and of EAT's release."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ssl_wb_plugins.backbones.vit import Vit, VitOptions

DIM = 256


def new(**options) -> Vit:
    torch.manual_seed(0)
    return Vit(VitOptions(dim=DIM, depth=1, heads=4, **options), 80)


def linear_maps(vit: Vit) -> list[nn.Linear]:
    return [one for one in vit.trunk.modules() if isinstance(one, nn.Linear)]


def xavier_bound(weight: torch.Tensor) -> float:
    return math.sqrt(6.0 / sum(weight.shape))


def is_xavier_uniform(weight: torch.Tensor) -> bool:
    bound = xavier_bound(weight)
    return bool(weight.abs().max() <= bound) and weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)


@pytest.mark.parametrize("init", ["xavier", "trunc-normal", "normal"])
def test_matrices_are_drawn_as_named_and_biases_are_zero(init):
    vit = new(init=init)
    for one in linear_maps(vit):
        assert is_xavier_uniform(one.weight) == (init == "xavier")
        if init != "xavier":
            assert one.weight.std().item() == pytest.approx(0.02, rel=0.03)
        assert not one.bias.any()
    assert is_xavier_uniform(vit.proj.weight) == (init != "trunc-normal")
    # EAT leaves the bias of its patch projection as torch draws it.
    assert bool(vit.proj.bias.any()) == (init == "normal")


@pytest.mark.parametrize("std", [0.02, 1.0])
def test_the_class_token_has_the_deviation_asked_for(std):
    vit = new(init="normal", class_token_std=std)
    assert vit.cls_token.std().item() == pytest.approx(std, rel=0.15)
