"""Schedules that do not fit a run's length are reported, and the shipped recipes keep to theirs."""

from __future__ import annotations

import json
import math
import re
import shlex

import pytest

import ssl_wb
from ssl_wb.cli.main import run
from ssl_wb.plugin.base import steps_of
from ssl_wb.pretext.teacher import kept_share
from ssl_wb.recipe.files import bundled_recipes
from ssl_wb.recipe.load import load_recipe
from ssl_wb.recipe.schema import TeacherSection


def warnings_of(capsys, recipe: str, *settings: str) -> list[str]:
    assert run(["validate", recipe, "--json", *(word for one in settings for word in ("--set", one))]) == 0
    return json.loads(capsys.readouterr().out)["warnings"]


def test_the_share_a_teacher_keeps_is_the_product_of_its_decays():
    section = TeacherSection(decay=[0.5, 0.9], decay_over=2)
    assert kept_share(section, 4) == pytest.approx(0.5 * 0.7 * 0.9 * 0.9)
    # The published decay over the published length forgets the first weights, over 1,000 steps it does not.
    assert kept_share(TeacherSection(), 1000) == pytest.approx(math.exp(-1000 * 3e-5), rel=1e-3)
    assert kept_share(TeacherSection(), 294816) < 1e-3


def test_a_teacher_that_stays_random_is_reported(capsys):
    (warning,) = warnings_of(capsys, "matpac", "train.steps=1000")
    assert "97 % of its own random first weights" in warning
    assert "teacher.init = 'copy'" in warning
    assert not warnings_of(capsys, "matpac", "train.steps=1000", "teacher.init=copy")
    assert not warnings_of(capsys, "matpac", "train.steps=1000", "teacher.decay=[0.99, 0.999]")
    assert not warnings_of(capsys, "matpac")
    # Without a teacher its section means nothing.
    assert not warnings_of(capsys, "msm-mae-small", "teacher.init=independent", "train.steps=10")


def test_a_schedule_longer_than_the_run_is_reported(capsys):
    (warning,) = warnings_of(capsys, "eat-small", "train.steps=1000", "train.warmup=53333")
    assert "train.warmup = 53333 is longer than the run of 1000 steps" in warning
    assert "1.9 % of its peak" in warning
    (warning,) = warnings_of(capsys, "eat-small", "train.steps=1000", "teacher.decay_over=2000")
    assert "teacher.decay_over = 2000" in warning
    (warning,) = warnings_of(capsys, "matpac-plus-plus-small", "objective.dino.teacher_warmup=10000")
    assert "objective.dino.teacher_warmup = 10000" in warning
    # Fitting ones, and the distance between checkpoints, are not.
    assert not warnings_of(capsys, "eat-small", "train.steps=1000", "train.warmup=1000", "train.checkpoint_every=5000")


def test_validate_prints_the_warnings_for_readers(capsys):
    assert run(["validate", "eat-small", "--set", "train.steps=100", "--set", "train.warmup=200"]) == 0
    assert re.search(r"^warning +train\.warmup = 200 is longer", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_schedules_of_shipped_recipes_follow_the_length_of_the_run(name):
    recipe = load_recipe(name).recipe
    assert isinstance(recipe.train.warmup, float)
    assert isinstance(recipe.teacher.decay_over, float)


def test_eat_warms_up_as_its_release_does():
    train = load_recipe("eat").recipe.train
    assert steps_of(train.warmup, train.steps) == 53333


def test_trial_commands_of_recipes_have_no_warning(capsys):
    tried = 0
    for name, path in sorted(bundled_recipes().items()):
        for comment in re.findall(r"^# (Try .*(?:\n# {8,}--.*)*)", path.read_text(encoding="utf-8"), re.MULTILINE):
            words = shlex.split(comment.replace("\n#", " "))
            settings = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
            assert "train.steps=1000" in settings
            assert not warnings_of(capsys, name, *(one for one in settings if not one.startswith("data.train="))), name
            tried += 1
    assert tried


def test_training_reports_them_too(tmp_path, caplog):
    settings = ("data.scenes.clips=20", "train.steps=1", "train.batch_size=4", "data.workers=0", "train.warmup=7")
    tiny = (
        *("backbone.dim=16", "backbone.depth=1", "backbone.heads=1"),
        *("predictor.dim=16", "predictor.depth=1", "predictor.heads=1", "teacher.init=independent"),
    )
    data = ("data.train=synthetic:scenes", "data.clip_seconds=0.4")
    ssl_wb.train("m2d-small", overrides=[*settings, *tiny, *data], out=tmp_path / "run", quiet=True, cpu=True)
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert any("train.warmup = 7 is longer than the run of 1 steps" in text for text in said), said
    assert any("of its own random first weights" in text for text in said), said


def test_audiomosaics_rate_belongs_to_its_batch():
    loaded = load_recipe("audiomosaic")
    # The release: 6e-4 at 6,144 clips a step.
    assert loaded.optimizer.options.lr / loaded.recipe.train.batch_size == pytest.approx(6e-4 / 6144)
