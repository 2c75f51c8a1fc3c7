"""Sweep files: the runs they mean, and every mistake told at once, with file, line and key."""

from __future__ import annotations

import pytest
from sweep_texts import TINY, write

from ssl_wb.cli.main import run
from ssl_wb.errors import RecipeError, UsageError
from ssl_wb.recipe.files import shipped_sweeps
from ssl_wb.recipe.load import load_recipe
from ssl_wb.sweep.load import Changes, load_sweep


def mistakes(folder, text, changes=None):
    with pytest.raises(RecipeError) as caught:
        load_sweep(write(folder, text), changes)
    assert caught.value.exit_code == 3
    return caught.value.problems


def test_every_combination_is_a_run_with_a_readable_name_seed_by_seed(tmp_path):
    sweep = load_sweep(write(tmp_path))
    assert [cell.name for cell in sweep.cells] == [
        *("masker=random_seed=0", "masker=dwm_seed=0", "masker=random_seed=1", "masker=dwm_seed=1"),
    ]
    last = sweep.cells[-1].recipe
    assert (last.masker.name, last.masker.options.ratio, last.recipe.seed) == ("dwm", 0.7, 1)
    assert last.recipe.train.steps == 6
    assert last.backbone.options.dim == 16


def test_a_run_is_what_its_settings_give_on_the_command_line(tmp_path):
    for cell in load_sweep(write(tmp_path)).cells:
        assert load_recipe(cell.base, cell.settings) == cell.recipe


def test_levels_change_several_keys_and_the_base(tmp_path):
    text = """
    seeds = [3]
    [[axis]]
    key = "masker"
    values = [{ name = "random" }, { name = "ibm" }]
    [[axis]]
    name = "system"
    [[axis.level]]
    name = "mae"
    base = "msm-mae-small"
    set = { "masker.ratio" = 0.75 }
    [[axis.level]]
    name = "m2d"
    base = "m2d-small"
    set = { masker.ratio = 0.6, objective.malap.weight = 0.5 }
    """
    cells = load_sweep(write(tmp_path, text)).cells
    assert [(cell.base.stem, cell.recipe.masker.name, cell.recipe.masker.options.ratio) for cell in cells] == [
        *(("msm-mae-small", "random", 0.75), ("m2d-small", "random", 0.6)),
        *(("msm-mae-small", "ibm", 0.75), ("m2d-small", "ibm", 0.6)),
    ]
    assert cells[1].recipe.objectives[0].settings.weight == 0.5


def test_skip_and_only_choose_runs(tmp_path):
    rules = 'skip = [{ masker = "dwm", seed = 1 }]\n'
    assert [cell.name for cell in load_sweep(write(tmp_path, rules + TINY)).cells] == [
        *("masker=random_seed=0", "masker=dwm_seed=0", "masker=random_seed=1"),
    ]
    only = 'only = [{ masker = ["dwm"] }]\n'
    assert {cell.levels["masker"] for cell in load_sweep(write(tmp_path, only + TINY)).cells} == {"dwm"}


def test_tasks_and_evaluators_become_the_probes_of_every_run(tmp_path):
    probes = 'tasks = ["synthetic:scenes"]\nevaluators = ["knn", { name = "linear", epochs = 7 }]\n'
    cell = load_sweep(write(tmp_path, probes + TINY.replace("evaluate = []\n", ""))).cells[0]
    assert [one.name for one in cell.recipe.evaluators] == ["knn", "linear"]
    assert cell.recipe.evaluators[1].options.epochs == 7
    typed = load_sweep(write(tmp_path), Changes(tasks=("synthetic:scenes",), evaluators=("knn",))).cells[0]
    assert [one.name for one in typed.recipe.evaluators] == ["knn"]


def test_paths_start_from_the_folder_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    sweep = load_sweep(write(tmp_path, TINY.replace("[set]", '[set]\n"data.train" = "sounds"')))
    assert sweep.cells[0].recipe.recipe.data.train == str(tmp_path / "sounds")


def test_settings_of_the_command_line_come_last(tmp_path):
    assert load_sweep(write(tmp_path), Changes(settings=("train.steps=9",))).cells[0].recipe.recipe.train.steps == 9


def test_mistakes_of_all_runs_are_told_at_once_with_line_and_run(tmp_path):
    text = TINY.replace("steps = 6", "stepz = 6").replace('"dwm", ratio = 0.7', '"dwm", ratio = 1.7')
    found = mistakes(tmp_path, text, Changes(settings=("masker.hint=2",)))
    assert any("tiny.toml:12: train.stepz: unknown key; did you mean 'steps'?" in one for one in found)
    assert any(
        "tiny.toml:17: masker.ratio: expected a number below 1, found 1.7 (in masker=dwm)" in one for one in found
    )
    assert any(one.startswith("--set masker.hint=2: masker.hint") and "(in masker=random)" in one for one in found)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds =", "seedz =", "tiny.toml:4: seedz: unknown key; did you mean 'seeds'?"),
        ("seeds = [0, 1]", "seeds = [0, 0]", "seed 0 is there twice"),
        ("seeds = [0, 1]", 'seeds = ["a"]', "expected a whole number, found the text 'a'"),
        ('base = "quickstart"', "", "the sweep names no base recipe"),
        ('"quickstart"', '"quickstrat"', "did you mean 'quickstart'?"),
        ('masker = "random" }', 'mask = "random" }', "no axis is called 'mask'; did you mean 'masker'?"),
        ('masker = "random" }', 'masker = "rando" }', "axis 'masker' has no level 'rando'; did you mean 'random'?"),
        ('"dwm", ratio = 0.7', '"random", ratio = 0.5', "two levels are called 'random'"),
        ('key = "masker"', 'keys = "masker"', "tiny.toml:16: axis.0.keys: unknown key; did you mean 'key'?"),
        ('key = "masker"', "", "give either key and values, or [[axis.level]]"),
        ('key = "masker"', 'key = "masker"\nnames = ["a"]', "names has 1 names for 2 values"),
        ('key = "masker"', 'key = "masker"\nname = "a b"', "axis.0.name"),
        ('key = "masker"', 'key = "masker"\nname = "seed"', "an axis cannot be called seed"),
        ('key = "masker"', 'key = "mask er"', "expected a key of the recipe"),
        ('"dwm", ratio = 0.7', '"dwn", ratio = 0.7', "did you mean 'dwm'?"),
        ("[set]", 'skip = [{ masker = "sgim" }]\n[set]', "axis 'masker' has no level 'sgim'"),
        ("[set]", "skip = [{}]\n[set]", "an empty table fits every run"),
        ("[set]", 'skip = [{ masker = ["random", "dwm"] }]\n[set]', "no run is left"),
        ("[set]", "only = [{ seed = 7 }]\n[set]", "axis 'seed' has no level '7'"),
        ("[[axis]]", "[[axis", "not valid TOML"),
    ],
)
def test_a_mistake_has_a_message(tmp_path, old, new, said):
    assert old in TINY
    found = mistakes(tmp_path, TINY.replace(old, new, 1))
    assert any(said in one for one in found), found


def test_two_levels_of_one_recipe_are_a_mistake(tmp_path):
    text = TINY.replace('"dwm", ratio = 0.7 }]', '"random", ratio = 0.7 }]\nnames = ["a", "b"]')
    text = text.replace('baseline = { masker = "random" }', "")
    assert "masker=a and masker=b have the same recipe" in mistakes(tmp_path, text)[0]


def test_an_evaluator_needs_a_task(tmp_path):
    assert "names no task" in mistakes(tmp_path, TINY, Changes(evaluators=("knn",)))[0]


def test_a_name_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'masking'"):
        load_sweep("maskin")
    with pytest.raises(UsageError, match="is a folder"):
        load_sweep(tmp_path)


SHIPPED = (
    "masking",
    "hint-schedule",
    "alpha",
    "temperature-warm-up",
    "prototypes",
    "hypotheses",
    "mosaic",
    "architecture",
)


def test_the_shipped_sweeps_are_there_in_two_sizes():
    assert set(shipped_sweeps()) == {*SHIPPED, *(f"{name}-small" for name in SHIPPED)}


@pytest.mark.parametrize("name", sorted(shipped_sweeps()))
def test_every_run_of_a_shipped_sweep_has_a_valid_recipe(name):
    sweep = load_sweep(name)
    count = len(sweep.cells)
    assert f"{count} runs" in sweep.source, f"the header of {name} does not say {count} runs"
    assert f"ssl-wb sweep {name} " in sweep.source
    assert len({cell.name for cell in sweep.cells}) == count
    assert len(sweep.seeds) >= (3 if name.endswith("-small") else 2)


def test_recipes_names_shows_and_copies_them(tmp_path, capsys):
    assert run(["recipes"]) == 0
    assert "sweeps/masking-small" in capsys.readouterr().out
    assert run(["recipes", "show", "sweeps/masking"]) == 0
    assert "[[axis]]" in capsys.readouterr().out
    assert run(["recipes", "copy", "sweeps/masking", str(tmp_path / "mine.toml")]) == 0
    assert load_sweep(tmp_path / "mine.toml").cells
