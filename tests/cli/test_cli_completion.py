"""Shell completion, through the environment variables that the shell sets."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ssl_wb.cli import completion

RECIPE = """
extends = "m2d-small"
[masker]
name = "dwm"
[[objective]]
name = "mcl"
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture(scope="module")
def words():
    """What is collected of the installed plugins, once for all tests."""
    return completion._collect()


@pytest.fixture
def complete(monkeypatch, words):
    """Complete a command line, whose last word may be a beginning."""
    from ssl_wb.cli.main import run

    monkeypatch.setattr(completion, "_collect", lambda: words)

    def ask(line, capsys):
        monkeypatch.setenv("_SSL_WB_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - (not line.endswith(" "))))
        with pytest.raises(SystemExit) as caught:
            run([])
        assert caught.value.code == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.split()

    return ask


@pytest.mark.parametrize("verb", ["train", "validate", "bench", "preview", "recipes show"])
def test_names_of_recipes(complete, capsys, verb):
    found = complete(f"ssl-wb {verb} msm-mae-small", capsys)
    assert sorted(found) == ["msm-mae-small", "msm-mae-small-dwm", "msm-mae-small-ibm", "msm-mae-small-sgim"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("ssl-wb describe back", ["backbone"]),
        ("ssl-wb describe objective m", ["malap", "mcl"]),
        ("ssl-wb describe backbone ", ["beats", "vit"]),
        ("ssl-wb describe nothing ", []),
        ("ssl-wb list-plugins --kind mas", ["masker"]),
        ("ssl-wb evaluate run --evaluator kn", ["knn"]),
        ("ssl-wb evaluate run --evaluator linear --set linear.ep", ["linear.epochs="]),
        ("ssl-wb evaluate run --set knn.k", ["knn.k="]),
        ("ssl-wb evaluate run --evaluator linear --set linear.task", []),
        ("ssl-wb preview quickstart --masker sg", ["sgim"]),
        ("ssl-wb preview quickstart --masker sgim:st", ["sgim:start="]),
        ("ssl-wb preview quickstart --masker sgim:layer=3,st", ["sgim:layer=3,start="]),
        ("ssl-wb train quickstart --set train.st", ["train.steps=", "train.strategy="]),
        ("ssl-wb train no-such-recipe --set masker.pha", []),
    ],
)
def test_words(complete, capsys, line, found):
    assert complete(line, capsys) == found


def test_keys_are_those_of_the_recipe_and_what_it_extends(complete, capsys, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(RECIPE)
    keys = complete(f"ssl-wb train {recipe} --set ", capsys)
    assert {"masker.ratio=", "masker.metric=", "objective.mcl.hypotheses=", "backbone.size=", "seed="} <= set(keys)
    assert "masker.layer=" not in keys  # of another masker
    assert not [key for key in keys if key.startswith(("extends", "objective.malap"))]
    recipe.write_text("[masker\n")
    assert "masker.layer=" in complete(f"ssl-wb train {recipe} --set masker.l", capsys)  # any plugin's


def test_the_second_completion_imports_no_torch(cache, words, tmp_path):
    source = (
        "import sys\nfrom ssl_wb.cli.main import run\n"
        "try:\n    run([])\n"
        "finally:\n    print('HEAVY', sorted({'torch', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    line = "ssl-wb train quickstart --set masker.ra"
    shell = {"_SSL_WB_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "4"}
    runs = [
        subprocess.run(
            [sys.executable, "-c", source], env={**os.environ, **shell}, capture_output=True, text=True, check=False
        )
        for _ in range(2)
    ]
    assert [one.stdout.split() for one in runs] == [["masker.ratio="]] * 2
    assert [one.stderr for one in runs] == ["HEAVY ['numpy', 'torch']\n", "HEAVY []\n"]
    assert len(list((cache / "ssl-wb").glob("completion-*.json"))) == 1


def test_plugins_that_do_not_load_are_no_noise(complete, capsys, monkeypatch):
    def broken():
        print("noise")
        print("noise", file=sys.stderr)
        raise RuntimeError("broken")

    monkeypatch.setattr(completion, "_collect", broken)
    assert complete("ssl-wb describe masker ", capsys) == []
    assert complete("ssl-wb train quickst", capsys) == ["quickstart"]


def test_collected_words_are_collected_again_after_a_day(cache, words, monkeypatch):
    calls = []
    monkeypatch.setattr(completion, "_collect", lambda: calls.append(1) or words)
    assert completion.kinds("mas") == completion.kinds("mas") == ["masker"]
    assert len(calls) == 1
    (kept,) = (cache / "ssl-wb").iterdir()
    os.utime(kept, (0, 0))
    completion.kinds("mas")
    assert len(calls) == 2
