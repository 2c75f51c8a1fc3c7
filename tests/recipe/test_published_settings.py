"""Settings of shipped recipes that stand for a released system: what the release does and a default here does not."""

from __future__ import annotations

import re

import pytest

from ssl_wb.recipe.files import bundled_recipes
from ssl_wb.recipe.load import load_recipe, resolved

#: By recipe, section and key; recipes that extend it have these values too, unless they set their own.
PUBLISHED = {
    "eat": {
        "backbone": {
            "norm": "post",
            "pre_norm": True,
            "final_norm": False,
            "positions_first": "frequency",
            "pool": "class",
            "init": "normal",
            "class_token_std": 1.0,
        },
        "predictor": {"name": "conv", "mask_token": "noise", "init": "torch"},
        "teacher": {"averages": "encoder", "sees": "all", "decay": [0.9998, 0.99999], "decay_over": 0.25},
        "objective.eat": {"utterance_weight": 192.0, "init": "torch"},
        "encoder": {"embedding": "frames", "fine_tuned": "clip-token"},
    },
    "m2d": {
        "teacher": {"init": "independent", "decay_end": "last"},
        "objective.malap": {"target": "standardised", "distance": "cosine"},
        "encoder": {"embedding": "folded"},
    },
    "m2d-clap": {"objective.clap": {"gather": "released"}, "teacher": {"decay_end": "last"}},
    "matpac": {
        "teacher": {"init": "independent", "decay_end": "after"},
        "objective.dino": {"teacher_warmup": pytest.approx(10 / 300, rel=1e-4)},
        "encoder": {"embedding": "folded"},
    },
    "matpac-plus-plus": {"objective.dino": {"teacher_warmup": pytest.approx(10 / 300, rel=1e-4)}},
    "matpac-plus-plus-music": {"objective.dino": {"teacher_warmup": pytest.approx(20 / 300, rel=1e-4)}},
    "audiomosaic": {
        "backbone": {"pool": "all", "pool_norm": True, "drop_path": 0.1},
        "encoder": {"embedding": "pooled", "fine_tuned": "pooled"},
    },
}
RELEASED = [name for name in sorted(bundled_recipes()) if "small" not in name and name != "quickstart"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_are_those_of_the_release(name):
    recipe = resolved(load_recipe(name))
    objectives = {f"objective.{each['name']}": each for each in recipe["objective"]}
    for section, wanted in PUBLISHED[name].items():
        found = objectives[section] if section in objectives else recipe[section]
        assert {key: found[key] for key in wanted} == wanted, section


@pytest.mark.parametrize("name", RELEASED)
def test_patches_are_counted_as_the_released_code_counts_them(name):
    masker = resolved(load_recipe(name))["masker"]
    assert masker.get("count", "published") == "published"  # time-frequency masks whole lines and has no such option


def test_alpha_is_the_weight_of_the_prediction():
    """MATPAC's loss is (1 - alpha) classification + alpha prediction."""
    text = bundled_recipes()["matpac"].read_text(encoding="utf-8")
    found = dict(re.findall(r'^name = "(malap|dino)"\nweight = [\d.]+ +# (.*)$', text, re.MULTILINE))
    assert found == {"malap": "alpha", "dino": "1 - alpha"}


def test_figures_of_another_batch_are_not_what_to_expect():
    """The published figures of AudioMosaic are of 6,144 clips a step, the recipe has 2,048."""
    text = bundled_recipes()["audiomosaic"].read_text(encoding="utf-8")
    assert re.findall(r"^# Expect +(.*)$", text, re.MULTILINE) == ["no published figure for 2,048 clips a step."]
