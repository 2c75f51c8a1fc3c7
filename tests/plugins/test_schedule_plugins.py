"""The schedules: their formulas, the rates of a run, and recipes with and without the section."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from ssl_wb.api import Schedule, warmup_cosine
from ssl_wb.errors import PluginError, RecipeError
from ssl_wb.plugin.registry import load_registry
from ssl_wb.recipe.load import load_recipe, resolved
from ssl_wb.recipe.schema import TrainSection
from ssl_wb.training.schedule import LearningRate, learning_rate
from ssl_wb_plugins.optimisers.adamw import AdamW
from ssl_wb_plugins.schedules.constant import Constant
from ssl_wb_plugins.schedules.cosine import Cosine
from ssl_wb_plugins.schedules.linear import Linear
from ssl_wb_plugins.schedules.warm_up_stable_decay import WarmUpStableDecay

OPTIMIZER = AdamW.Options(lr=1e-3, min_lr=1e-5)
TRAIN = TrainSection(steps=110, warmup=10)


def rates(schedule: Schedule | None) -> list[float]:
    return [learning_rate(OPTIMIZER, TRAIN, step, 110, schedule) for step in range(111)]


@pytest.mark.parametrize(
    ("plugin", "options", "shares"),
    [
        (Cosine, {}, [1.0, 0.5 * (1 + math.cos(math.pi / 4)), 0.5, 0.0]),
        (Linear, {}, [1.0, 0.75, 0.5, 0.0]),
        (Constant, {}, [1.0, 1.0, 1.0, 1.0]),
        (WarmUpStableDecay, {"decay": 1.0}, [1.0, 0.5, 1 - math.sqrt(0.5), 0.0]),
        (WarmUpStableDecay, {"decay": 0.75, "shape": "linear"}, [1.0, 1.0, 2 / 3, 0.0]),
    ],
)
def test_formulas(plugin, options, shares):
    schedule = plugin(plugin.Options(**options))
    assert [schedule.share(progress) for progress in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(shares, abs=1e-12)


def test_cosine_is_that_of_0_1_bit_for_bit():
    expected = [warmup_cosine(step, 110, 10, peak=1e-3, last=1e-5) for step in range(111)]
    assert rates(Cosine(Cosine.Options())) == expected == rates(None)


@pytest.mark.parametrize("name", ["cosine", "linear", "constant", "warm-up-stable-decay"])
def test_the_warm_up_comes_before_every_schedule(name):
    plugin = load_registry().get("schedule", name)
    found = rates(plugin(plugin.Options()))
    assert found[:10] == pytest.approx([1e-3 * (step + 1) / 10 for step in range(10)])
    assert found[10] == pytest.approx(1e-3)
    assert found[-1] == pytest.approx(1e-3 if name == "constant" else 1e-5)
    assert all(first >= second for first, second in pairwise(found[10:]))


def test_the_plateau_lasts_until_the_decay():
    found = rates(WarmUpStableDecay(WarmUpStableDecay.Options(decay=0.2)))
    assert found[10:91] == pytest.approx([1e-3] * 81)
    assert found[91] < 1e-3


class Wrong(Schedule):
    """Returns the rate itself."""

    name = "wrong"

    def share(self, progress):
        return progress if progress < 0.5 else float("nan")


def test_a_share_that_is_none_stops_the_run():
    rate = LearningRate(OPTIMIZER, TRAIN, Wrong(Wrong.Options()))
    assert rate(20, 110) == pytest.approx(1e-5 + 0.1 * (1e-3 - 1e-5))
    with pytest.raises(PluginError, match=r"schedule 'wrong' .*from 0 to 1 from share; seen: nan at progress 0\.9"):
        rate(100, 110)


def test_recipes():
    bare = load_recipe("quickstart")
    assert isinstance(bare.schedule.build(), Cosine)
    assert resolved(bare)["schedule"] == {"name": "cosine"}
    chosen = load_recipe("quickstart", ["schedule.name=warm-up-stable-decay", "schedule.decay=0.1"])
    assert resolved(chosen)["schedule"] == {"name": "warm-up-stable-decay", "decay": 0.1, "shape": "sqrt"}


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("schedule.name=cosin", "did you mean 'cosine'?"),
        ("schedule.decay=0.1", "schedule.decay: unknown key"),
        ("schedule={name = 'warm-up-stable-decay', decay = 0}", "expected a number above 0"),
        ("schedule=cosine", "schedule"),
    ],
)
def test_mistakes(setting, text):
    with pytest.raises(RecipeError) as caught:
        load_recipe("quickstart", [setting])
    assert text in caught.value.message
