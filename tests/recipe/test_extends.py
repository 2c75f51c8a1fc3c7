"""Recipes that start from another one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipe_fakes import GOOD, PLUGINS, REGISTRY, registry_of

from ssl_wb.errors import RecipeError
from ssl_wb.recipe.load import load_recipe
from ssl_wb.recipe.tree import Origin, Tree


def child(write, text: str, registry=REGISTRY, overrides=()):
    write(GOOD, "base/parent.toml")
    write(f'extends = "base/parent.toml"\n{text}', "child.toml")
    return load_recipe("child.toml", overrides, registry=registry)


def test_tables_merge_key_by_key(write):
    loaded = child(write, "seed = 3\n[masker]\nviews = 2\n")
    assert (loaded.recipe.seed, loaded.recipe.title) == (3, "good")
    assert loaded.masker.options.model_dump() == {"ratio": 0.6, "views": 2}


def test_another_plugin_does_not_inherit_options(write):
    loaded = child(write, '[masker]\nname = "block"\nwrap = true\n')
    assert loaded.masker.options.model_dump() == {"size": (4, 4), "shape": "square", "wrap": True}


def test_the_same_plugin_named_again_keeps_them(write):
    assert child(write, '[masker]\nname = "random"\n').masker.options.ratio == 0.6


def test_lists_replace_whole(write):
    loaded = child(write, '[[objective]]\nname = "mcl"\n')
    assert [(one.name, one.settings.weight, one.options.hypotheses) for one in loaded.objectives] == [("mcl", 1.0, 5)]
    assert [one.name for one in loaded.evaluators] == ["knn"]


def test_one_length_drops_the_others(write):
    train = child(write, "[train]\nepochs = 2.0\n").recipe.train
    assert (train.steps, train.epochs, train.samples) == (None, 2.0, None)


def test_paths_are_relative_to_the_file_that_says_them(write, tmp_path):
    loaded = child(write, '[[evaluate]]\nname = "knn"\ntask = "mine.csv"\n')
    assert loaded.recipe.data.train == str(tmp_path / "base" / "clips")
    assert loaded.evaluators[0].settings.task == str(tmp_path / "mine.csv")


def test_paths_that_climb_home_or_stand_for_scenes(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    item = '[[evaluate]]\nname = "knn"\ntask = "{}"\n'
    tasks = item.format("synthetic:scenes") + item.format("~/t.csv")
    loaded = child(write, '[data]\ntrain = "../sounds"\n' + tasks)
    assert loaded.recipe.data.train == str(tmp_path.parent / "sounds")
    assert [one.settings.task for one in loaded.evaluators] == ["synthetic:scenes", str(tmp_path / "home" / "t.csv")]


def test_chains(write):
    write(GOOD, "a.toml")
    write('extends = "a.toml"\nseed = 1\n[masker]\nratio = 0.2\n', "b.toml")
    write('extends = "b.toml"\n[masker]\nratio = 0.3\n', "c.toml")
    loaded = load_recipe("c.toml", registry=REGISTRY)
    assert (loaded.recipe.title, loaded.recipe.seed, loaded.masker.options.ratio) == ("good", 1, 0.3)
    assert loaded.source.startswith('extends = "b.toml"')


def test_a_shipped_recipe_may_be_extended_by_name(write, tmp_path):
    shipped = write(GOOD, "elsewhere/house.toml")
    registry = registry_of(*PLUGINS, recipes=(("someone", shipped),))
    for name in ("house", "house.toml"):
        write(f'extends = "{name}"\nseed = 9\n', "mine/child.toml")
        loaded = load_recipe("mine/child.toml", registry=registry)
        assert (loaded.recipe.title, loaded.recipe.seed) == ("good", 9)


def test_extends_is_not_looked_for_in_the_working_directory(write):
    write(GOOD, "here.toml")
    write('extends = "here.toml"\n', "sub/child.toml")
    with pytest.raises(RecipeError, match=r"sub/child\.toml:1: extends: no file .* called 'here\.toml'"):
        load_recipe("sub/child.toml", registry=REGISTRY)


def test_a_mistake_names_the_file_where_it_is_written(write):
    write("bogus = 1\n" + GOOD.replace("ratio = 0.6", "ratio = 6"), "parent.toml")
    write('extends = "parent.toml"\n[train]\nbatch_size = 0\n', "child.toml")
    with pytest.raises(RecipeError) as caught:
        load_recipe("child.toml", registry=REGISTRY)
    places = [problem.split(": ")[:2] for problem in caught.value.problems]
    assert places == [
        ["child.toml:3", "train.batch_size"],
        ["parent.toml:1", "bogus"],
        ["parent.toml:9", "masker.ratio"],
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": "a.toml"}, "a.toml:1: extends: goes in a circle: a.toml -> a.toml"),
        ({"a": "b.toml", "b": "a.toml"}, "b.toml:1: extends: goes in a circle: a.toml -> b.toml -> a.toml"),
    ],
)
def test_circles_are_reported(write, files, message):
    for name, parent in files.items():
        write(f'extends = "{parent}"\n', f"{name}.toml")
    with pytest.raises(RecipeError) as caught:
        load_recipe("a.toml", registry=REGISTRY)
    assert caught.value.problems == [message]


def test_without_its_parent_a_recipe_is_still_checked_but_misses_nothing(write):
    write("[masker\n", "parent.toml")
    write('extends = "parent.toml"\n[trian]\nsteps = 1\n[train]\nwarmup = 0.1\n', "child.toml")
    with pytest.raises(RecipeError) as caught:
        load_recipe("child.toml", ["objective.mcl.weight=1"], registry=REGISTRY)
    assert [problem.split(": ")[0] for problem in caught.value.problems] == ["child.toml:2", "parent.toml:1"]


@pytest.mark.parametrize("value", ["3", '""', '["a.toml", "b.toml"]'])
def test_extends_wants_one_recipe(write, value):
    write(f"extends = {value}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe("recipe.toml", registry=REGISTRY)
    assert caught.value.problems == ["recipe.toml:1: extends: expected the path or name of one recipe, in quotes"]


TABLES = st.recursive(
    st.integers(0, 9) | st.sampled_from(["x", "y"]) | st.lists(st.integers(0, 9), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=4,
)
DOCUMENTS = st.dictionaries(st.sampled_from("abcd"), TABLES, max_size=4)


def merged(parent, child):
    """The rule, said once more: tables key by key, everything else replaced."""
    if isinstance(parent, dict) and isinstance(child, dict):
        keys = [*parent, *(key for key in child if key not in parent)]
        return {
            key: merged(parent[key], child[key]) if key in parent and key in child else (child | parent)[key]
            for key in keys
        }
    return child


@given(st.lists(DOCUMENTS, min_size=1, max_size=3))
def test_merging_and_origins_agree_with_the_rule(tmp_path_factory, documents):
    root = tmp_path_factory.getbasetemp()
    tree, expected = Tree(root / "r.toml"), {}
    for index, document in enumerate(documents):
        tree.overlay((), document, lambda _, index=index: Origin(line=index))
        expected = merged(expected, document)
    assert tree.data == expected
    for key, value in expected.items():
        if not isinstance(value, dict):  # the last document that has the key wrote it
            last = max(index for index, document in enumerate(documents) if key in document)
            assert tree.origin((key,)).line == last


@given(DOCUMENTS, DOCUMENTS)
def test_merging_changes_neither_document(tmp_path_factory, first, second):
    before = repr((first, second))
    tree = Tree(tmp_path_factory.getbasetemp() / "r.toml")
    tree.overlay((), first, lambda _: Origin())
    tree.overlay((), second, lambda _: Origin())
    tree.put(("a",), {"new": 1}, lambda _: Origin())
    assert repr((first, second)) == before
