"""Which parameters every shipped recipe decays."""

from __future__ import annotations

import pytest
import torch

from ssl_wb.pretext.build import build_model
from ssl_wb.recipe.files import bundled_recipes
from ssl_wb.recipe.load import load_recipe
from ssl_wb.training.optimizer import decay_groups

#: What the published code exempts; small recipes and the quickstart keep the default of the workbench.
SPARED = {"msm-mae": "vectors", "m2d": "vectors", "eat": "vectors", "eat-small": "vectors", "matpac": "nothing"}
TOKENS = {"backbone.cls_token", "predictor.mask_token", "backbone.position_table"}


def published(name: str) -> str:
    """Return the rule of a recipe, or of the one it varies."""
    if name in SPARED:
        return SPARED[name]
    if "small" in name or name.startswith(("audiomosaic", "quickstart")):
        return "tokens"
    return SPARED[max((stem for stem in SPARED if name.startswith(stem)), key=len)]


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_groups_of_a_recipe(name):
    loaded = load_recipe(name)
    with torch.device("meta"):
        model = build_model(loaded, total_steps=1000)
    spare = loaded.optimizer.options.spared
    assert spare == published(name)
    decayed, free = decay_groups(model, spare)
    trained = {key: value for key, value in model.named_parameters() if value.requires_grad}
    assert decayed.keys() | free.keys() == trained.keys()
    assert not decayed.keys() & free.keys()
    tokens = TOKENS & trained.keys()
    if spare == "nothing":
        assert not free
        return
    assert all(value.dim() < 2 for key, value in free.items() if key not in tokens and not key.endswith("weight_g"))
    assert all(value.dim() >= 2 for value in decayed.values())
    assert tokens <= (decayed if spare == "vectors" else free).keys()
    assert not any(key.endswith("bias") for key in decayed)
