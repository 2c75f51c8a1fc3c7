"""The resolved recipe says everything and loads back as the same."""

from __future__ import annotations

import json

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_fakes import GOOD, REGISTRY

from ssl_wb.recipe.load import load_recipe, resolved, to_toml


def test_every_default_is_written_out(write):
    write(GOOD, "parent.toml")
    path = write('extends = "parent.toml"\n')
    values = resolved(load_recipe(path, registry=REGISTRY))
    assert "extends" not in values
    assert values["masker"] == {"name": "random", "ratio": 0.6, "views": 1}
    assert values["backbone"] == {"name": "vit", "size": "tiny", "position": {"kind": "sincos", "scale": 1.0}}
    assert values["objective"][1] == {"name": "dino", "weight": 0.5, "prototypes": 2048}
    assert values["front_end"]["n_mels"] == 80
    assert "mean" not in values["front_end"]
    assert "epochs" not in values["train"]
    assert tomli.loads(to_toml(values)) == values


def test_recipes_are_compared_by_what_they_say(write):
    write(GOOD)
    first = load_recipe("recipe.toml", registry=REGISTRY)
    write(GOOD.replace("ratio = 0.6", "ratio = 0.6 # the same\nviews = 1"))
    assert load_recipe("recipe.toml", ["seed=0"], registry=REGISTRY) == first
    assert load_recipe("recipe.toml", ["seed=1"], registry=REGISTRY) != first
    assert load_recipe("recipe.toml", ["masker.views=2"], registry=REGISTRY) != first
    assert load_recipe("recipe.toml", ["objective.0.weight=2"], registry=REGISTRY) != first


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("snapshot")
    (folder / "recipe.toml").write_text(GOOD, encoding="utf-8")
    return folder


FRACTIONS = st.floats(0.01, 0.99)


@settings(max_examples=40, deadline=None)
@given(
    title=st.text(max_size=8),
    seed=st.integers(0, 2**40),
    ratio=FRACTIONS,
    lr=st.floats(1e-12, 1e3),
    warmup=st.integers(0, 1000) | st.floats(0, 1),
    start=st.integers(0, 9) | FRACTIONS,
    length=st.sampled_from(["steps=3", "epochs=0.5", "epochs=2", "samples=1000"]),
    masker=st.sampled_from(["random", "block", "fakes/random"]),
    train=st.text("ab ./~é'\"", min_size=1, max_size=6),
    grad_clip=st.sampled_from(["inf", "1", "0.5"]),
    evaluate=st.sampled_from(["[]", '[{name="linear", task="t.csv", rates=[1, 0.5]}]']),
)
def test_round_trip(folder, title, seed, ratio, lr, warmup, start, length, masker, train, grad_clip, evaluate):
    overrides = [
        f"title={json.dumps(title, ensure_ascii=False)}",
        f"seed={seed}",
        f"masker.name={masker}",
        *([f"masker.ratio={ratio!r}"] if masker != "block" else ["masker.size=[2, 8]"]),
        f"optimizer.lr={lr!r}",
        f"train.warmup={warmup!r}",
        f"train.{length}",
        f"train.grad_clip={grad_clip}",
        f"objective.mcl.start={start!r}",
        f"data.train={json.dumps(train, ensure_ascii=False)}",
        f"evaluate={evaluate}",
    ]
    loaded = load_recipe(folder / "recipe.toml", overrides, registry=REGISTRY)
    copy = folder / "elsewhere" / "resolved.toml"
    copy.parent.mkdir(exist_ok=True)
    copy.write_text(to_toml(resolved(loaded)), encoding="utf-8")
    again = load_recipe(copy, registry=REGISTRY)
    assert again == loaded
    assert type(again.recipe.train.warmup) is type(loaded.recipe.train.warmup)
    assert resolved(again) == resolved(loaded)
