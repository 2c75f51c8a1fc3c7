"""What the plan finds before anything is trained."""

from __future__ import annotations

import pytest

from ssl_wb.errors import RecipeError, UsageError
from ssl_wb.pretext.plan import make_plan
from ssl_wb.recipe.files import bundled_recipes
from ssl_wb.recipe.load import load_recipe


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_every_shipped_recipe_adds_up(name):
    plan = make_plan(load_recipe(name))
    assert plan.gflop_per_clip > 0
    for visible, masked in zip(plan.visible, plan.masked, strict=True):
        assert visible + masked == plan.grid[0] * plan.grid[1]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("m2d-small-ibm", ["masker.block=5"], r"masker 'ibm': a block of 5 x 5 .* at most 3"),
        ("m2d-small-sgim", ["masker.layer=7"], r"masker 'sgim': block 7 is asked for, and there are 6"),
        ("m2d-small", ["masker.ratio=0.99"], "none would be visible"),
        ("audiomosaic-small", ["masker.freq_ratio=0.95"], "none would be visible in view 2 of 2"),
        ("msm-mae-small-sgim", ["masker.latents=teacher"], "no objective here has a teacher"),
        ("eat-small", ["teacher.sees=masked"], r"objective 'eat': .*teacher\.sees"),
        ("audiomosaic-small", ["masker.layout=joint"], "objective 'infonce': .*two views"),
    ],
)
def test_what_does_not_fit_is_a_mistake_of_the_recipe(name, settings, message):
    with pytest.raises(RecipeError, match=message):
        make_plan(load_recipe(name, settings))


def test_more_teacher_blocks_than_there_are():
    with pytest.raises(UsageError, match="average names 7 blocks, the teacher has 6"):
        make_plan(load_recipe("eat-small", ["objective.eat.average=7"]))
    with pytest.raises(UsageError, match="block 9, the teacher has 6"):
        make_plan(load_recipe("m2d-small", ["objective.malap.target=layers", "objective.malap.layers=[9]"]))


def test_a_contrast_may_do_without_masks_and_a_prediction_may_not():
    assert make_plan(load_recipe("audiomosaic-small", ["masker.time_ratio=0.0"])).masked[0] == 0
    hybrid = ["masker.name=time-frequency", "masker.time_ratio=0.0"]
    with pytest.raises(RecipeError, match="none would be masked in view 1 of 2"):
        make_plan(load_recipe("m2d-small", hybrid))
