"""The files of a new plugin's project that are not Python: one function each."""

from __future__ import annotations

__all__ = ["pyproject", "readme", "recipe", "workflow"]

#: What a recipe says to select the plugin, by kind; a kind without an entry is not part of a recipe.
SECTIONS = {
    "masker": '[masker]\nname = "{name}"\n',
    "objective": '[[objective]]\nname = "{name}"\n',
    "backbone": '[backbone]\nname = "{name}"\n',
    "evaluator": '[[evaluate]]\nname = "{name}"\ntask = "synthetic:scenes"\n',
    "front-end": '[front_end]\nname = "{name}"\n',
    "augmentation": '[[data.augment]]\nname = "{name}"\n',
    "optimiser": '[optimizer]\nname = "{name}"\n',
    "schedule": '[schedule]\nname = "{name}"\n',
    "source": '[data]\ntrain = "{name}:tones"\n',
}

#: How a plugin is used that no recipe selects, by kind.
OTHER_USES = {
    "task": "ssl-wb tasks make {name} --root FOLDER --out {name}.csv",
    "importer": "ssl-wb import FILE --out encoder",
}

#: Settings of mypy for libraries without types, by kind.
UNTYPED = {"source": '\n[[tool.mypy.overrides]]\nmodule = ["soundfile"]\nignore_missing_imports = true\n'}


def pyproject(kind: str, name: str, module: str) -> str:
    """Return ``pyproject.toml``.

    Args:
        kind: kind of plugin.
        name: name of the plugin, which the distribution ``ssl-wb-NAME`` is called after.
        module: name of its package.
    """
    return f"""[build-system]
requires = ["hatchling>=1.26"]
build-backend = "hatchling.build"

[project]
name = "ssl-wb-{name}"
version = "0.1.0"
description = "The {kind} {name}: a plugin for ssl-wb."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["ssl-wb"]

[project.optional-dependencies]
test = ["pytest>=8.3", "ruff>=0.14", "mypy>=1.18"]

# ssl-wb finds the plugin by this entry point: the package whose hooks return it.
[project.entry-points.ssl_wb]
{name} = "{module}"

[tool.hatch.build.targets.wheel]
packages = ["{module}"]

[tool.ruff]
line-length = 120

[tool.ruff.lint]
select = ["E", "F", "W", "I", "UP", "B"]

[tool.ruff.lint.isort]
known-first-party = ["ssl_wb", "{module}"]

[tool.mypy]
packages = ["{module}"]
strict = true
{UNTYPED.get(kind, "")}"""


def readme(kind: str, name: str, module: str, summary: str) -> str:
    """Return ``README.md``.

    Args:
        kind: kind of plugin.
        name: name of the plugin.
        module: name of its package.
        summary: first paragraph of the plugin's docstring.
    """
    use = f"ssl-wb train {name} --out runs/{name}" if kind in SECTIONS else OTHER_USES[kind].format(name=name)
    return f"""# ssl-wb-{name}

The {kind} `{name}` for ssl-wb. {summary}

```sh
pip install -e '.[test]'
ssl-wb list-plugins --kind {kind}
ssl-wb describe {kind} {name}
{use}
pytest
ruff check .
mypy
```

The plugin is `{module}/__init__.py`. Its tests are in `tests/`.
"""


def recipe(kind: str, name: str) -> str | None:
    """Return a recipe that uses the plugin and trains 20 steps; None for a kind that no recipe selects.

    Args:
        kind: kind of plugin.
        name: name of the plugin.
    """
    if kind not in SECTIONS:
        return None
    # A list of tables replaces the parent's whole list.
    probes = "" if kind == "evaluator" else "evaluate = []\n"
    return f"""# The shipped recipe quickstart with the {kind} {name}, 20 steps.

extends = "quickstart"
title = "Quickstart with the {kind} {name}"
{probes}
{SECTIONS[kind].format(name=name)}
[train]
steps = 20
batch_size = 16
log_every = 5
"""


def workflow() -> str:
    """Return the GitHub workflow that tests the plugin."""
    return """name: test
on: [push, pull_request]
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.11"
      - run: pip install '.[test]'
      - run: ruff check .
      - run: ruff format --check .
      - run: mypy
      - run: pytest
"""
