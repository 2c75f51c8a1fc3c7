"""The JSON Schema that editors read, checked by a validator of just the words it uses."""

from __future__ import annotations

import json
import re

import pytest
import tomli
from pydantic import Field
from recipe_fakes import GOOD, PLUGINS, REGISTRY, RandomMasker, registry_of
from schema_checker import is_valid, resolve

from ssl_wb.plugin.base import Plugin, PluginOptions
from ssl_wb.plugin.registry import PluginRecord, Registry
from ssl_wb.recipe.jsonschema import recipe_schema
from ssl_wb.recipe.load import load_recipe, resolved

SCHEMA = recipe_schema(REGISTRY)


def valid(text: str, schema: dict = SCHEMA) -> bool:
    return is_valid(tomli.loads(text), schema, schema)


def test_a_good_recipe_agrees(write):
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert valid(GOOD)
    values = resolved(load_recipe(write(GOOD), registry=REGISTRY))
    assert is_valid(values, SCHEMA, SCHEMA)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('title = "good"', 'titel = "good"'),
        ("ratio = 0.6", "ratio = 1.6"),
        ("ratio = 0.6", "rato = 0.6"),
        ("ratio = 0.6", "size = [4, 4]"),  # another masker's
        ('name = "random"', ""),
        ('name = "random"', 'name = "rondom"'),
        ('size = "tiny"', 'size = "huge"'),
        ('size = "tiny"', "position = { sacle = 1 }"),
        ("hypotheses = 3", "hypotheses = 0"),
        ("weight = 0.5", "weight = -1"),
        ('task = "task.csv"', ""),
        ("steps = 100", 'steps = "100"'),
        ("[train]\nsteps = 100", ""),
    ],
)
def test_mistakes_do_not(old, new):
    assert old in GOOD
    assert not valid(GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    "text",
    ["seed = 1", "[masker]\nratio = 0.1", '[masker]\nname = "block"\nsize = [2, 2]', "[train]\nepochs = 1.5"],
)
def test_with_extends_nothing_is_required(text):
    assert valid(f'extends = "x.toml"\n{text}')
    assert not valid(text)


def test_lists_are_replaced_whole_so_their_items_are_always_named():
    assert not valid('extends = "x.toml"\n[[objective]]\nhypotheses = 3')


def test_qualified_names_agree():
    assert valid(GOOD.replace('"random"', '"fakes/random"'))


def test_nothing_offers_null_and_every_reference_leads_somewhere():
    text = json.dumps(SCHEMA)
    assert "null" not in text
    references = re.findall(r'"\$ref": "([^"]+)"', text)
    assert references
    for reference in references:
        resolve(reference, SCHEMA)


def test_every_key_tells_its_meaning():
    random = next(one for one in SCHEMA["$defs"]["MaskerSection"]["oneOf"] if one["title"] == "random")
    assert random["description"] == "Masks at random."
    assert random["properties"]["ratio"]["description"] == "Share of patches masked."
    assert SCHEMA["$defs"]["DataSection"]["properties"]["clip_seconds"]["description"]


def test_two_plugins_of_one_name_and_of_one_nested_model():
    class Position(PluginOptions):
        other: int = 0

    class Rival(Plugin):
        """Another vit."""

        kind = "backbone"
        name = "vit"

        class Options(PluginOptions):
            position: Position = Field(default_factory=Position, description="Another model of that name.")

    Rival.Options.model_rebuild(_types_namespace={"Position": Position})
    records = [
        *REGISTRY.records,
        PluginRecord("backbone", "vit", "rivals", "1", "active", "Another vit.", plugin=Rival),
    ]
    schema = recipe_schema(Registry(records))
    text = '[masker]\nname = "random"\n[[objective]]\nname = "mcl"\n[train]\nsteps = 1\n[backbone]\n'
    assert valid(text + 'name = "rivals/vit"\nposition = { other = 1 }', schema)
    assert valid(text + 'name = "fakes/vit"\nposition = { scale = 1 }', schema)
    assert not valid(text + 'name = "fakes/vit"\nposition = { other = 1 }', schema)
    assert not valid(text + 'name = "vit"', schema)


def test_a_kind_without_plugins_has_no_valid_section():
    schema = recipe_schema(
        registry_of(*(one for one in PLUGINS if one is not RandomMasker and one.kind != "evaluator"))
    )
    assert not valid(GOOD, schema)
