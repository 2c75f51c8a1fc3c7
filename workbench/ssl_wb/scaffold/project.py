"""A new plugin's project: the template of its kind under its own name, with recipe, tests and packaging."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from ssl_wb.errors import UsageError, did_you_mean
from ssl_wb.files import written_aside
from ssl_wb.plugin.kinds import KINDS
from ssl_wb.scaffold import texts

__all__ = ["write_project"]

_KEBAB_CASE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write_project(kind: str, name: str, out: Path | None = None) -> Path:
    """Write an installable project with one plugin.

    Args:
        kind: kind of plugin, as ``masker``.
        name: name of the plugin in recipes, in kebab-case.
        out: folder to make; ``ssl-wb-NAME`` in the current folder unless given.

    Returns:
        The folder.

    Raises:
        UsageError: there is no such kind, the name is not in kebab-case, or the folder is there already.
    """
    if kind not in KINDS:
        raise UsageError(
            f"no kind of plugin is called {kind!r}{did_you_mean(kind, KINDS)}", hint=f"kinds: {', '.join(KINDS)}"
        )
    if not _KEBAB_CASE.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name of a plugin", hint="lower-case letters, digits and hyphens, as in my-masker"
        )
    folder = (out or Path(f"ssl-wb-{name}")).expanduser()
    if folder.exists():
        raise UsageError(f"{folder} exists already", hint="name another folder with --out")
    with written_aside(folder, sync=False) as aside:
        for place, text in _project_files(kind, name).items():
            path = aside / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return folder


def _project_files(kind: str, name: str) -> dict[str, str]:
    """Return the text of every file of the project, by its place."""
    module = f"ssl_wb_{name.replace('-', '_')}"
    template = kind.replace("-", "_")
    source = _renamed(_template(template), template, name, module)
    recipe = texts.recipe(kind, name)
    found = {
        "pyproject.toml": texts.pyproject(kind, name, module),
        "README.md": texts.readme(kind, name, module, _summary(source)),
        ".github/workflows/test.yml": texts.workflow(),
        f"{module}/__init__.py": source if recipe is None else _with_recipe(source, name),
        f"{module}/py.typed": "",
        f"tests/test_{name.replace('-', '_')}.py": _renamed(_template(f"{template}_test"), template, name, module),
    }
    return found if recipe is None else {**found, f"{module}/{name}.toml": recipe}


def _template(name: str) -> str:
    """Return the source of a template."""
    return files("ssl_wb.scaffold").joinpath("templates", f"{name}.py").read_text(encoding="utf-8")


def _renamed(source: str, template: str, name: str, module: str) -> str:
    """Return a template's source under the plugin's own names."""
    title = "".join(part.capitalize() for part in name.split("-"))
    source = source.replace(f"ssl_wb.scaffold.templates.{template} import", f"{module} import")
    # In the order of names: ssl_wb.testing comes before the plugin's own package, and after the template's.
    source = re.sub(rf"(from {module} import .*\n)(from ssl_wb\.testing import .*\n)", r"\2\1", source)
    return source.replace("NewPlugin", title).replace("new-plugin", name)


def _with_recipe(source: str, name: str) -> str:
    """Return a plugin's source with the hook that ships its recipe."""
    hook = f'''

@hookimpl
def ssl_wb_recipes() -> list[Path]:
    """Ship the recipe that uses it."""
    return [Path(__file__).with_name("{name}.toml")]
'''
    source = source.rstrip("\n") + "\n" + hook
    if "from pathlib import Path\n" in source:
        return source
    # Behind the other imports of the standard library.
    standard = re.search(r"from __future__ import annotations\n\n(from collections\.abc import \w+\n)?", source)
    assert standard is not None
    rest = source[standard.end() :]
    separator = "" if rest.startswith(("\n", "from typing")) else "\n"
    return source[: standard.end()] + "from pathlib import Path\n" + separator + rest


def _summary(source: str) -> str:
    """Return the first line of the plugin's docstring, which its class is the last to open."""
    found = re.findall(r'\nclass \w+\([A-Z]\w+\):\n    """(.+)', source)
    return str(found[-1]).removesuffix('"""')
