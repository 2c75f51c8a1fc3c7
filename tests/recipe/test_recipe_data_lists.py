"""[[data.augment]] and [data.captions]: names, options, lines, overrides, extends, the snapshot."""

from __future__ import annotations

import pytest
import tomli
from pydantic import Field
from recipe_fakes import GOOD, PLUGINS, REGISTRY, registry_of
from schema_checker import is_valid

from ssl_wb.errors import RecipeError
from ssl_wb.plugin.base import Plugin, PluginOptions
from ssl_wb.recipe.jsonschema import recipe_schema
from ssl_wb.recipe.load import load_recipe, resolved, to_toml
from ssl_wb_plugins.augmentations import audiomentations

AUGMENTED = (
    GOOD
    + """
[[data.augment]]
name = "gain-beta"

[[data.augment]]
name = "time-stretch"
min_rate = 0.7
p = 0.7
"""
)


@pytest.fixture
def load(write):
    return lambda text, *overrides: load_recipe(write(text), overrides, registry=REGISTRY)


def entries(loaded):
    entries = [one.written() for one in loaded.augmentations]
    return [(entry.pop("name"), entry.pop("p", None), entry) for entry in entries]


def test_every_option_is_written_out(load):
    assert entries(load(AUGMENTED)) == [
        ("gain-beta", 1.0, {"a": 10.0, "b": 10.0, "offset": 0.5}),
        (
            "time-stretch",
            0.7,
            {"min_rate": 0.7, "max_rate": 1.25, "leave_length_unchanged": True, "method": "signalsmith_stretch"},
        ),
    ]
    polarity = '\n[[data.augment]]\nname = "polarity-inversion"\n'
    assert entries(load(GOOD + polarity)) == [("polarity-inversion", 0.5, {})]  # the library's own p


def test_the_snapshot_loads_back_as_the_same(load):
    loaded = load(AUGMENTED + '[data.captions]\nsource = "label"\n')
    values = resolved(loaded)
    schema = recipe_schema(REGISTRY)
    assert is_valid(values, schema, schema)
    assert is_valid(tomli.loads(AUGMENTED), schema, schema)
    assert load(to_toml(values)) == loaded
    assert load(AUGMENTED) != load(AUGMENTED, "data.augment.time-stretch.p=0.5")


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        (
            '"time-stretch"',
            '"time-strech"',
            "recipe.toml:34: data.augment.1.name",
            "no augmentation is called 'time-strech'; did you mean 'time-stretch'? augmentations: gain-beta, roll, "
            "those of audiomentations (`ssl-wb list-plugins --kind augmentation` says what each does)",
        ),
        (
            "min_rate = 0.7",
            "min_rat = 0.7",
            "recipe.toml:35: data.augment.time-stretch.min_rat",
            "unknown key; did you mean 'min_rate'? (augmentation 'time-stretch' takes: name, min_rate, max_rate, "
            "leave_length_unchanged, method, p)",
        ),
        (
            "min_rate = 0.7",
            'min_rate = "slow"',
            "recipe.toml:35: data.augment.time-stretch.min_rate",
            "expected a number, found the text 'slow'",
        ),
        (
            "min_rate = 0.7",
            'method = "librosa"',
            "recipe.toml:35: data.augment.time-stretch.method",
            "expected 'librosa_phase_vocoder' or 'signalsmith_stretch', found the text 'librosa'; did you mean "
            "'librosa_phase_vocoder'?",
        ),
        (
            "p = 0.7",
            "p = 7",
            "recipe.toml:36: data.augment.time-stretch.p",
            "expected a number of at most 1, found 7",
        ),
        (
            '"gain-beta"',
            '"gain-beta"\na = 0',
            "recipe.toml:32: data.augment.gain-beta.a",
            "expected a number above 0, found 0",
        ),
        ('name = "gain-beta"', "", "recipe.toml:30: data.augment.0.name", "required and missing"),
    ],
)
def test_one_mistake_is_one_message(mistakes, old, new, place, message):
    assert old in AUGMENTED
    (problem,) = mistakes(AUGMENTED.replace(old, new, 1))
    assert problem == f"{place}: {message}"


def test_overrides_address_entries_by_name(load, mistakes):
    assert load(AUGMENTED, "data.augment.time-stretch.max_rate=1.3").augmentations[1].options.max_rate == 1.3
    assert load(AUGMENTED, "data.augment=[]").augmentations == ()
    swapped = load(AUGMENTED, "data.augment.1.name=pitch-shift")  # drops min_rate, keeps p
    assert entries(swapped)[1][:2] == ("pitch-shift", 0.7)
    assert mistakes(AUGMENTED, "data.augment.time-strech.p=1") == [
        "--set data.augment.time-strech.p=1: data.augment.time-strech.p: no item is named 'time-strech'; did you mean "
        "'time-stretch'? (data.augment has: gain-beta, time-stretch)"
    ]
    assert mistakes(GOOD, "data.augment.roll.p=1") == [
        "--set data.augment.roll.p=1: data.augment.roll.p: the recipe has no [[data.augment]]; give the whole list: "
        "--set 'data.augment=[{name = \"...\"}]'"
    ]


def test_a_table_for_the_list_and_a_list_for_the_table(mistakes):
    assert mistakes(GOOD + '[data.augment]\nname = "roll"\n') == [
        "recipe.toml:29: data.augment: expected a list, found a table; write [[data.augment]]"
    ]
    assert mistakes(GOOD + '[[data.captions]]\nsource = "label"\n') == [
        "recipe.toml:29: data.captions: expected a table, found a list of 1; write [data.captions], once"
    ]


def test_a_child_replaces_the_list_whole(write):
    write(AUGMENTED, "parent.toml")
    child = write('extends = "parent.toml"\n[[data.augment]]\nname = "roll"\n')
    assert [entry.name for entry in load_recipe(child, registry=REGISTRY).augmentations] == ["roll"]


def test_sounds_are_found_from_the_recipe(write):
    text = '\n[[data.augment]]\nname = "add-background-noise"\nsounds_path = "noise"\n'
    path = write(GOOD + text, "recipes/recipe.toml")
    (entry,) = load_recipe(path, registry=REGISTRY).augmentations
    assert entry.written()["sounds_path"] == str(path.parent / "noise")
    several = write(GOOD + text.replace('"noise"', '["a", "b"]'), "recipes/recipe.toml")
    (entry,) = load_recipe(several, registry=REGISTRY).augmentations
    assert entry.written()["sounds_path"] == [str(path.parent / "a"), str(path.parent / "b")]


def test_a_recipe_is_read_where_the_library_is_absent(load, mistakes, monkeypatch):
    monkeypatch.setattr(audiomentations, "library", lambda: None)
    monkeypatch.setattr(audiomentations, "_plugin_of", audiomentations._plugin_of.__wrapped__)
    assert entries(load(AUGMENTED))[1] == ("time-stretch", 0.7, {"min_rate": 0.7})
    assert len(mistakes(AUGMENTED.replace('"gain-beta"', '"gain-beta"\nofset = 1'))) == 1


# ------------------------------------------------------------------------------------------------ captions


def test_there_are_no_captions_unless_asked_for(load):
    assert load(GOOD).recipe.data.captions is None
    section = load(GOOD + "[data.captions]\n").recipe.data.captions
    assert (section.source, section.encoder, section.dim) == ("caption", "thenlper/gte-base", 768)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            'template = "heard"',
            "data.captions: template 'heard' has no {} for the label",
        ),
        (
            'sorce = "label"',
            "data.captions.sorce: unknown key; did you mean 'source'? (known here: source, template, encoder, dim)",
        ),
        (
            'source = "labels"',
            "data.captions.source: expected 'caption', 'label' or 'embedding', found the text 'labels'; did you mean "
            "'label'?",
        ),
    ],
)
def test_mistakes_in_captions(mistakes, line, message):
    assert mistakes(f"{GOOD}[data.captions]\n{line}\n") == [f"recipe.toml:30: {message}"]


def test_the_sound_scenes_have_labels_only(load, mistakes):
    scenes = GOOD.replace('train = "clips"', 'train = "synthetic:scenes"') + "[data.captions]\n"
    assert mistakes(scenes) == [
        "recipe.toml:29: data.captions.source: 'synthetic:scenes' has labels only, no captions; set it to 'label'"
    ]
    assert load(scenes, "data.captions.source=label").recipe.data.captions.source == "label"


class Clap(Plugin):
    """Needs captions."""

    kind = "objective"
    name = "clap"
    needs = frozenset({"pooled", "captions"})
    provides = frozenset()

    class Options(PluginOptions):
        scale: float = Field(1.0, description="Anything.")


def test_an_objective_that_needs_captions_asks_for_them(write):
    registry = registry_of(*PLUGINS, Clap)
    text = GOOD.replace('"mcl"\nweight = 0.5\nhypotheses = 3', '"clap"').replace('"dino"', '"mcl"')
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text), registry=registry)
    assert caught.value.problems == [
        "recipe.toml:14: objective.clap: needs captions, and the recipe has none; add [data.captions] with source = "
        "'caption', 'label' or 'embedding'"
    ]
    assert load_recipe(write(text + "[data.captions]\n"), registry=registry).recipe.data.captions is not None
