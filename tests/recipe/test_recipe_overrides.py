"""--set key.path=value."""

# ruff: noqa: E501 - messages stand whole, as a user reads them

from __future__ import annotations

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from recipe_fakes import GOOD, REGISTRY

from ssl_wb.recipe.load import load_recipe
from ssl_wb.recipe.overrides import Override, apply_override, parse_override
from ssl_wb.recipe.problems import Problem
from ssl_wb.recipe.tree import Origin, Tree


@pytest.fixture
def load(write):
    """Load the good recipe with overrides."""
    write(GOOD, "recipes/recipe.toml")
    return lambda *overrides: load_recipe("recipes/recipe.toml", overrides, registry=REGISTRY)


@pytest.mark.parametrize(
    ("text", "keys", "value"),
    [
        ("seed=3", ("seed",), 3),
        ("optimizer.lr=3e-4", ("optimizer", "lr"), 3e-4),
        ("a.b=[1, 2]", ("a", "b"), [1, 2]),
        ("a.b={c = 1}", ("a", "b"), {"c": 1}),
        ("a=true", ("a",), True),
        ("a=True", ("a",), "True"),
        ('a="3"', ("a",), "3"),
        ("a=b=c", ("a",), "b=c"),
        ("a=", ("a",), ""),
        ("a= some words ", ("a",), "some words"),
        ("a=1\nb = 2", ("a",), "1\nb = 2"),
        ("a=../x y/z.csv", ("a",), "../x y/z.csv"),
        ('objective."dist/mcl".w=1', ("objective", "dist/mcl", "w"), 1),
        ("objective.dist/mcl.w=1", ("objective", "dist/mcl", "w"), 1),
        ("a.'b.c'=1", ("a", "b.c"), 1),
        (" a.b = 1", ("a", "b"), 1),
    ],
)
def test_keys_and_values(text, keys, value):
    parsed = parse_override(text)
    assert isinstance(parsed, Override)
    assert (parsed.keys, parsed.value) == (keys, value)
    assert type(parsed.value) is type(value)


@pytest.mark.parametrize("text", ["seed", "=3", "a..b=1", ".a=1", "a.=1", "", "a b=1"])
def test_what_is_no_assignment(text):
    problem = parse_override(text)
    assert isinstance(problem, Problem)
    assert str(problem) == f"--set {text}: expected key.path=value, as in train.steps=100"


def test_extends_belongs_into_a_file():
    assert str(parse_override("extends=x")) == "--set extends=x: extends: cannot be set; write it into a recipe file"


VALUES = st.recursive(
    st.integers(-(2**62), 2**62) | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(VALUES)
def test_a_toml_value_is_read_as_toml_would(value):
    text = tomli_w.dumps({"x": value}).partition("=")[2].strip(" ").removesuffix("\n")
    parsed = parse_override(f"key={text}")
    assert isinstance(parsed, Override)
    assert parsed.value == value


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=4),
    st.dictionaries(st.sampled_from("abc"), st.dictionaries(st.sampled_from("abc"), st.integers())),
)
def test_an_override_sets_its_key_and_nothing_else(tmp_path_factory, keys, document):
    root = tmp_path_factory.getbasetemp()
    tree = Tree(root / "r.toml")
    tree.overlay((), document, lambda _: Origin(line=1))
    problem = apply_override(tree, Override("x", tuple(keys), "new"), root)
    if len(keys) > 2 and keys[1] in document.get(keys[0], {}):
        assert "is a single value" in str(problem)
        assert tree.data == document
        return
    assert problem is None
    assert tree.value(tuple(keys)) == "new"
    assert tree.origin(tuple(keys)).override == "x"
    for first, table in document.items():
        for second, value in table.items():
            if (first, second)[: len(keys)] != tuple(keys)[:2]:
                assert tree.value((first, second)) == value
                assert tree.origin((first, second)).line == 1


def test_values_reach_sections_and_plugins(load):
    loaded = load(
        "seed=7",
        "masker.ratio=0.25",
        "optimizer.betas=[0.8, 0.9]",
        "title=two words",
        "backbone.position={scale=2}",
    )
    assert (loaded.recipe.seed, loaded.recipe.title) == (7, "two words")
    assert loaded.masker.options.ratio == loaded.masker.written()["ratio"] == 0.25
    assert loaded.optimizer.options.betas == [0.8, 0.9]
    assert loaded.backbone.options.position.scale == 2.0
    assert loaded.overrides == ("seed=7", *loaded.overrides[1:])


def test_the_last_one_counts(load):
    assert load("seed=1", "seed=2").recipe.seed == 2


def test_list_items_by_name_and_by_index(load):
    loaded = load(
        "objective.mcl.hypotheses=4",
        "objective.1.weight=0",
        "optimizer={betas=[0.1, 0.2]}",
        "optimizer.betas.0=0.5",
    )
    assert loaded.objectives[0].options.hypotheses == 4
    assert loaded.objectives[1].settings.weight == 0
    assert loaded.optimizer.options.betas == [0.5, 0.2]


def test_a_qualified_item_answers_to_its_bare_name(load):
    loaded = load("objective.mcl.name=fakes/mcl", "objective.mcl.hypotheses=2", 'objective."fakes/mcl".weight=0.1')
    assert (loaded.objectives[0].name, loaded.objectives[0].settings.weight) == ("fakes/mcl", 0.1)
    assert loaded.objectives[0].options.hypotheses == 2


def test_another_plugin_drops_the_options_of_the_former_but_not_of_the_section(load):
    loaded = load("masker.name=block", "objective.dino.name=mcl", "evaluate.knn.name=linear")
    assert loaded.masker.options.model_dump() == {"size": (4, 4), "shape": "square", "wrap": False}
    assert (loaded.objectives[1].settings.weight, loaded.objectives[1].options.hypotheses) == (0.5, 5)
    assert loaded.evaluators[0].settings.task.endswith("recipes/task.csv")


@pytest.mark.parametrize("order", [1, -1])
def test_a_name_and_its_options_may_come_in_any_order(load, order):
    assert load(*["masker.name=block", "masker.wrap=true"][::order]).masker.options.wrap is True


def test_one_length_drops_the_others(load):
    train = load("train.epochs=2").recipe.train
    assert (train.steps, train.epochs) == (None, 2.0)


def test_two_lengths_by_override_are_a_mistake_of_the_override(mistakes):
    assert mistakes(GOOD, "train.epochs=2", "train.samples=9") == [
        "--set train.epochs=2: train: give exactly one of steps, epochs, samples; here: epochs, samples"
    ]


def test_whole_sections_merge_and_whole_lists_replace(load):
    loaded = load("train={batch_size=8}", "evaluate=[]", 'objective=[{name="mcl"}]', "objective.0={hypotheses=2}")
    assert (loaded.recipe.train.steps, loaded.recipe.train.batch_size) == (100, 8)
    assert loaded.evaluators == ()
    assert [(one.name, one.options.hypotheses) for one in loaded.objectives] == [("mcl", 2)]


def test_paths_are_relative_to_the_working_directory(load, tmp_path):
    loaded = load("data.train=mine", 'evaluate=[{name="knn", task="t.csv"}]')
    assert loaded.recipe.data.train == str(tmp_path / "mine")
    assert loaded.evaluators[0].settings.task == str(tmp_path / "t.csv")
    assert load().recipe.data.train == str(tmp_path / "recipes" / "clips")
    assert load("data.train=synthetic:scenes").recipe.data.train == "synthetic:scenes"
    assert load("data={train='mine'}").recipe.data.train == str(tmp_path / "mine")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.mlc.weight=1", "objective.mlc.weight: no item is named 'mlc'; did you mean 'mcl'? (objective has: mcl, "
         "dino)"),
        ("objective.2.weight=1", "objective.2.weight: no item 2; objective has 2 (indices 0 to 1)"),
        ("title.short=x", "title.short: title is a single value, so there is no 'short' in it"),
        ("masker.name=rondom", "masker.name: no masker is called 'rondom'; did you mean 'random'? maskers: block, "
         "crashing, random (`ssl-wb list-plugins --kind masker` says what each does)"),
        ("title=2024", "title: expected text, found 2024; put it in quotes"),
        ("data.workers=[1", "data.workers: expected a whole number or 'auto', found the text '[1'"),
        ("evaluate.knn.neighbours=many", "evaluate.knn.neighbours: expected a whole number, found the text 'many'"),
        ("data.train=", "data.train: expected a folder, a manifest CSV or 'synthetic:scenes', found an empty text"),
    ],
)  # fmt: skip
def test_messages(mistakes, override, message):
    assert mistakes(GOOD, override) == [f"--set {override}: {message}"]


def test_two_items_of_one_name_want_an_index(mistakes):
    text = GOOD.replace('name = "dino"', 'name = "mcl"')
    assert mistakes(text, "objective.mcl.weight=1") == [
        "--set objective.mcl.weight=1: objective.mcl.weight: 2 items are named 'mcl'; use the index: objective.0 or "
        "objective.1"
    ]


def test_no_list_to_change(mistakes):
    text = GOOD[: GOOD.index("[[evaluate]]")]
    assert mistakes(text, "evaluate.knn.task=x") == [
        "--set evaluate.knn.task=x: evaluate.knn.task: the recipe has no [[evaluate]]; give the whole list: --set "
        "'evaluate=[{name = \"...\"}]'"
    ]
