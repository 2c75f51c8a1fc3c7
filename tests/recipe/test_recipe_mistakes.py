"""Every mistake at once, each in a message that a user can act on."""

# ruff: noqa: E501 - messages stand whole, as a user reads them

from __future__ import annotations

import re
from pathlib import Path

import pytest
from recipe_fakes import GOOD, REGISTRY

from ssl_wb.errors import PluginError, RecipeError, UsageError
from ssl_wb.recipe.load import load_recipe, require_data
from ssl_wb.recipe.schema import TrainSection, document_model


def changed(*pairs: tuple[str, str]) -> str:
    text = GOOD
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def test_five_mistakes_are_five_messages_in_the_order_of_the_file(write):
    write(
        changed(
            ('title = "good"', 'titel = "bad"'),
            ('train = "clips"', 'train = "clips"\nshort = "zero"'),
            ('name = "random"', 'name = "randon"'),
            ("hypotheses = 3", "hypothesis = 3"),
            ("steps = 100", "steps = 100\nbatch_size = 0"),
        )
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe("recipe.toml", registry=REGISTRY)
    assert caught.value.exit_code == 3
    assert str(caught.value).startswith("recipe.toml: 5 mistakes\n  - recipe.toml:1: ")
    assert "ssl-wb schema" in caught.value.hint
    assert [re.sub(r" \(`ssl-wb.*", "", problem) for problem in caught.value.problems] == [
        "recipe.toml:1: titel: unknown key; did you mean 'title'? (known here: extends, "
        f"{', '.join(document_model().model_fields)})",
        "recipe.toml:5: data.short: expected 'zeros' or 'repeat', found the text 'zero'; did you mean 'zeros'?",
        "recipe.toml:8: masker.name: no masker is called 'randon'; did you mean 'random'? maskers: block, crashing, "
        "random",
        "recipe.toml:18: objective.mcl.hypothesis: unknown key; did you mean 'hypotheses'? (objective 'mcl' takes: "
        "weight, hypotheses, start)",
        "recipe.toml:26: train.batch_size: expected a number of at least 1, found 0",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 100", 'steps = "100"', "train.steps: expected a whole number, found the text '100'; leave the quotes out"),
        ("steps = 100", "steps = 1e3", "train.steps: expected a whole number, found 1000.0; write 1000"),
        ("steps = 100", "steps = true", "train.steps: expected a whole number, found true"),
        ("steps = 100", "steps = [1]", "train.steps: expected a whole number, found [1]"),
        ("steps = 100", "steps = 2024-01-02", "train.steps: no key of a recipe is a date or time; found 2024-01-02, "
         "and text goes in quotes"),
        ("steps = 100", "steps = 1\nwarmup = 1.5", "train.warmup: expected a whole number or a number of at most 1, "
         "found 1.5"),
        ("steps = 100", "steps = 1\nwarmup = -1", "train.warmup: expected a number of at least 0, found -1"),
        ("steps = 100", "", "train: give exactly one of steps, epochs, samples; here: none"),
        ("steps = 100", "steps = 1\nepochs = 2", "train: give exactly one of steps, epochs, samples; here: steps, epochs"),
        ("steps = 100", "steps = 1\ngrad_clip = nan", "train.grad_clip: expected a number above 0, found nan"),
        ('title = "good"', "title = 2024", "title: expected text, found 2024; put it in quotes"),
        ('train = "clips"', 'train = ""', "data.train: expected a folder, a manifest CSV or 'synthetic:scenes', found an "
         "empty text"),
        ('train = "clips"', 'train = "synthetic:scene"', "data.train: expected a path or 'synthetic:scenes', found the "
         "text 'synthetic:scene'; did you mean 'synthetic:scenes'?"),
        ('train = "clips"', 'workers = "autos"', "data.workers: expected a whole number or 'auto', found the text 'autos'; "
         "did you mean 'auto'?"),
        ('train = "clips"', "scenes = { clip = 1 }", "data.scenes.clip: unknown key; did you mean 'clips'? (known here: "
         "clips, seconds, seed)"),
        ("ratio = 0.6", "ratio = 1.0", "masker.ratio: expected a number below 1, found 1.0"),
        ("ratio = 0.6", "ratio = {}", "masker.ratio: expected a number, found a table"),
        ("[masker]", "[[masker]]", "masker: expected a table, found a list of 1; write [masker], once"),
        ('name = "random"\nratio = 0.6', "ratio = 0.6", "masker.name: required and missing"),
        ('name = "random"\nratio = 0.6', 'name = "block"\nsize = [3, 3]', "masker.size: size 3 is odd"),
        ('name = "random"\nratio = 0.6', 'name = "block"\nsize = [4]', "masker.size.1: required and missing"),
        ('name = "random"\nratio = 0.6', 'name = "block"\nwrap = "true"', "masker.wrap: expected true or false, found the "
         "text 'true'; leave the quotes out"),
        ('size = "tiny"', 'size = "Base"', "backbone.size: expected 'tiny' or 'base', found the text 'Base'; did you mean "
         "'base'?"),
        ('size = "tiny"', "position = { sacle = 2 }", "backbone.position.sacle: unknown key; did you mean 'scale'? (known "
         "here: kind, scale)"),
        ("weight = 0.5\nhypotheses", "wieght = 0.5\nhypotheses", "objective.mcl.wieght: unknown key; did you mean "
         "'weight'? (objective 'mcl' takes: weight, hypotheses, start)"),
        ('name = "dino"\nweight = 0.5', "weight = 0.5", "objective.1.name: required and missing"),
        ('task = "task.csv"', "", "evaluate.knn.task: required and missing"),
        ("[data]", "[optimizer]\nbetas = [0.9]\n[data]", "optimizer.betas: expected a list of at least 2 values, found "
         "[0.9]"),
        ("[data]", "[front_end]\nf_max = 9000\n[data]", "front_end: f_max 9000 Hz is above half the sample rate (8000 Hz)"),
        ("[data]", "[front_end]\nname = 'log-mal'\n[data]", "front_end.name: no front-end is called "
         "'log-mal'; did you mean 'log-mel'? front-ends: db-mel, kaldi-fbank, log-mel (`ssl-wb list-plugins --kind front-end` says "
         "what each does)"),
        ("[data]", "[front_end]\nname = 'kaldi-fbank'\ncenter = true\n[data]", "front_end: center = true is for log-mel; "
         "kaldi-fbank takes whole windows only, so leave it false"),
        ("[data]", "[front_end]\nname = 'kaldi-fbank'\nn_fft = 401\n[data]", "front_end: n_fft 401 is odd; kaldi-fbank "
         "needs an even one"),
        ("[data]", "[front_end]\nstd_factor = 0\n[data]", "front_end.std_factor: expected a number above 0, found 0"),
    ],
)  # fmt: skip
def test_one_mistake_is_one_message(mistakes, old, new, message):
    (problem,) = mistakes(changed((old, new)))
    place, _, text = problem.partition(": ")
    assert text == message
    assert re.fullmatch(r"recipe\.toml:\d+", place)


def test_lines_point_at_the_key(mistakes):
    (problem,) = mistakes(changed(("ratio = 0.6", "# more\nratio = 2.0")))
    assert problem.startswith("recipe.toml:9: masker.ratio: ")


def test_missing_sections_are_named_as_they_are_written(mistakes):
    assert mistakes("seed = 1\n") == [
        "recipe.toml: masker: the recipe needs a section [masker]",
        "recipe.toml: backbone: the recipe needs a section [backbone]",
        "recipe.toml: objective: the recipe needs a section [[objective]]",
        "recipe.toml: train: the recipe needs a section [train]",
    ]


def test_a_table_for_a_list_of_tables(mistakes):
    cut = GOOD.index('[[objective]]\nname = "dino"')
    text = GOOD[:cut].replace("[[objective]]", "[objective]") + "[train]\nsteps = 1\n"
    assert mistakes(text) == ["recipe.toml:14: objective: expected a list, found a table; write [[objective]]"]


def test_syntax_errors_name_line_and_column(mistakes):
    problems = mistakes("seed = 1\n[data\n", "nonsense")
    assert problems == [
        "recipe.toml:2: not valid TOML at line 2, column 6: expected ']' at the end of a table declaration",
        "--set nonsense: expected key.path=value, as in train.steps=100",
    ]


def test_files_that_are_no_text(write):
    write("").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"recipe\.toml: not UTF-8 text \(byte 0\); save it as UTF-8"):
        load_recipe("recipe.toml", registry=REGISTRY)


def test_a_byte_order_mark_is_no_mistake(write):
    path = write("")
    path.write_text(GOOD, encoding="utf-8-sig")
    assert load_recipe(path, registry=REGISTRY).recipe.title == "good"


def test_whoever_needs_a_prediction_comes_after_one(mistakes):
    swapped = changed(
        ('name = "mcl"\nweight = 0.5\nhypotheses = 3', 'name = "dino"'),
        ('name = "dino"\nweight', 'name = "mcl"\nweight'),
    )
    assert mistakes(swapped) == [
        "recipe.toml:14: objective.dino: needs a prediction, and no objective before it provides one; move 'mcl' before it"
    ]
    assert mistakes(changed(('[[objective]]\nname = "mcl"\nweight = 0.5\nhypotheses = 3', ""))) == [
        "recipe.toml:16: objective.dino: needs a prediction, and no objective before it provides one; put one that does "
        "before it: mcl"
    ]


def test_an_objective_with_a_wrong_name_may_be_the_one_that_provides(mistakes):
    (problem,) = mistakes(changed(('name = "mcl"', 'name = "mlc"'), ("hypotheses = 3", "")))
    assert "objective.0.name: no objective is called 'mlc'; did you mean 'mcl'?" in problem


def test_a_mistake_from_the_command_line_names_the_override(mistakes):
    assert mistakes(GOOD, "train.batch_szie=1", "masker.ratio=2", "data.scenes.clip=1") == [
        "--set train.batch_szie=1: train.batch_szie: unknown key; did you mean 'batch_size'? (known here: "
        f"{', '.join(TrainSection.model_fields)})",
        "--set masker.ratio=2: masker.ratio: expected a number below 1, found 2",
        "--set data.scenes.clip=1: data.scenes.clip: unknown key; did you mean 'clips'? (known here: clips, seconds, seed)",
    ]


def test_what_a_section_says_of_itself_is_blamed_on_the_override_it_names(mistakes):
    assert mistakes(GOOD + "[front_end]\nhop = 100\n", "front_end.f_max=9000") == [
        "--set front_end.f_max=9000: front_end: f_max 9000 Hz is above half the sample rate (8000 Hz)"
    ]


def test_two_items_of_a_name_are_shown_by_index(mistakes):
    (problem,) = mistakes(changed(('name = "dino"\nweight = 0.5', 'name = "mcl"\nhypotheses = 0')))
    assert ": objective.1.hypotheses: " in problem


def test_a_plugin_that_crashes_is_blamed(write):
    write(changed(('name = "random"\nratio = 0.6', 'name = "crashing"\ndepth = 7')))
    with pytest.raises(PluginError, match="masker 'crashing' failed while checking its options: IndexError"):
        load_recipe("recipe.toml", registry=REGISTRY)


def test_no_such_recipe_is_a_mistake_of_the_command(write):
    write(GOOD)
    with pytest.raises(UsageError, match=r"no file and no shipped recipe is called 'recipee\.toml'"):
        load_recipe("recipee.toml", registry=REGISTRY)


def test_data_may_be_left_open_until_it_is_needed(write):
    write(changed(('train = "clips"', "")))
    loaded = load_recipe("recipe.toml", registry=REGISTRY)
    with pytest.raises(RecipeError, match=r"--set data\.train=FOLDER") as caught:
        require_data(loaded)
    assert caught.value.exit_code == 3
    loaded = load_recipe("recipe.toml", ["data.train=sounds"], registry=REGISTRY)
    assert require_data(loaded) == str(Path.cwd() / "sounds")
