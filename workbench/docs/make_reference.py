"""Writes what the pages take from the code: ``python workbench/docs/make_reference.py``; ``--check`` only compares.

Written are recipe-keys.md, commands.md and plugin-checks.md in this folder, the picture of the house, the JSON Schema
beside the recipes, and the parts of recipes/README.md and plugins/README.md between ``<!-- generated -->`` and
``<!-- end -->``. Everything is read through the command line and the files of the project, so that the pages show what
a user gets.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from reference_checks import plugin_checks
from reference_commands import commands
from reference_house import house
from reference_keys import as_markdown, escape, recipe_keys

from ssl_wb.cli.main import app, run
from ssl_wb.plugin.kinds import KINDS

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parents[1]
NOTE = "<!-- Made by workbench/docs/make_reference.py; change the code's descriptions, not this page. -->\n"
BEGIN, END = "<!-- generated -->\n", "<!-- end -->"


def written() -> dict[Path, str]:
    """Return the text of every file that this script writes."""
    with without_other_plugins():
        schema = json.loads(output("schema"))
        plugins = json.loads(output("list-plugins", "--json"))
        texts = {(one["kind"], one["name"]): docstring(one["kind"], one["name"]) for one in plugins}
    recipes, bundled, tutorial = ROOT / "recipes" / "README.md", ROOT / "plugins" / "README.md", DOCS / "plugins.md"
    return {
        DOCS / "recipe-keys.md": recipe_keys(schema, texts, NOTE),
        DOCS / "commands.md": commands(app, NOTE),
        DOCS / "plugin-checks.md": plugin_checks(NOTE),
        DOCS / "pictures" / "house.svg": house(ROOT / "tests" / "test_rooms.py"),
        ROOT / "recipes" / "recipe.schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n",
        recipes: between_marks(recipes, results()),
        bundled: between_marks(bundled, plugin_table(plugins)),
        tutorial: between_marks(tutorial, hooks_table()),
        DOCS / "python-api.md": between_marks(DOCS / "python-api.md", api_tables()),
    }


def output(*words: str) -> str:
    """Return what a command prints."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        code = run(words)
    if code:
        raise SystemExit(f"ssl-wb {' '.join(words)} left with {code}")
    return stream.getvalue()


@contextlib.contextmanager
def without_other_plugins() -> Any:
    """Leave out the plugins of other distributions: the pages describe ssl-wb alone."""
    others = {one["distribution"] for one in json.loads(output("list-plugins", "--json"))} - {"ssl-wb"}
    before = os.environ.get("SSL_WB_BLOCK_PLUGINS")
    from ssl_wb.plugin.registry import load_registry

    if others:
        os.environ["SSL_WB_BLOCK_PLUGINS"] = ",".join(sorted(others))
        load_registry(refresh=True)
    try:
        yield
    finally:
        if others:
            os.environ.pop("SSL_WB_BLOCK_PLUGINS")
            if before is not None:
                os.environ["SSL_WB_BLOCK_PLUGINS"] = before
            load_registry(refresh=True)


def docstring(kind: str, name: str) -> str:
    """Return the docstring and the reference of a plugin, as ``describe`` prints them."""
    text = output("describe", kind, name).split("\n", 2)[2]
    return re.split(r"\n(?:OPTION |It takes no options|Names: )", text, maxsplit=1)[0].strip()


def measured_rows(name: str) -> list[list[str]]:
    """Return heading and rows of the first table of a measured page, without intervals."""
    text = (DOCS / "measured" / name).read_text(encoding="utf-8")
    rows = [line for line in text.split("**minus")[0].split("\n## ")[0].splitlines() if line.startswith("| ")]
    heading, body = rows[2], rows[3:]
    names = [re.sub(r" \(.*\)", "", cell.strip().strip("*")) for cell in heading.strip("|").split("|")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in body]
    fitting = [row for row in cells if len(row) == len(names) and not row[0].startswith(("**", "---")) and row[0]]
    return [names, *([row[0], *(cell.split(" ")[0] for cell in row[1:])] for row in fitting)]


def results() -> str:
    """Return the measured tables of the small recipes without their intervals; a full-length row replaces its older."""
    full, half = measured_rows("cpu-small-recipes-full.md"), measured_rows("cpu-small-recipes.md")
    known = {row[0] for row in full}
    parts = [
        ("Full length, 2026-11-25:", full),
        ("Half of the steps, version 0.1, the others:", [half[0], *(row for row in half[1:] if row[0] not in known)]),
    ]
    lines: list[str] = []
    for title, (names, *rows) in parts:
        lines += [title, "", f"| {' | '.join(names)} |", "| --- |" + " ---: |" * (len(names) - 1)]
        lines += [*(f"| {' | '.join(row)} |" for row in rows), ""]
    return "\n".join(lines)


def plugin_table(plugins: list[dict[str, Any]]) -> str:
    """Return what is bundled, by kind."""
    lines = ["| kind | name | what it does |", "| --- | --- | --- |"]
    lines += [f"| {one['kind']} | `{one['name']}` | {escape(one['summary'])} |" for one in plugins]
    return "\n".join(lines) + "\n"


def hooks_table() -> str:
    """Return the hooks with what each returns and where a recipe selects it."""
    lines = ["| kind | hook | returns subclasses of | in a recipe | for |", "| --- | --- | --- | --- | --- |"]
    for spec in KINDS.values():
        path = ".".join(spec.section)
        section = (f"`[[{path}]]`" if spec.listed else f"`[{path}]`") if path else ""
        base = spec.contract.rpartition(":")[2]
        lines.append(f"| {spec.kind} | `{spec.hook}` | `{base}` | {section} | {escape(spec.description)} |")
    return "\n".join(lines) + "\n"


#: What the names of ``ssl_wb.api`` are for, by the module that defines them; the longest match counts.
GROUPS = {
    "ssl_wb.plugin": "Contracts and what they pass on",
    "ssl_wb.plugin.task_files": "Reading the files of a task",
    "ssl_wb.plugin.importer": "Importing checkpoints",
    "ssl_wb.plugin.checkpoint_tensors": "Importing checkpoints",
    "ssl_wb.plugin.vit_tensors": "Importing checkpoints",
    "ssl_wb.layers": "Pieces of networks and figures of health",
    "ssl_wb.probing": "Probing",
    "ssl_wb.scoring": "Scoring",
    "ssl_wb.audio": "Clips and audio files",
    "ssl_wb": "Errors and files",
}


def api_tables() -> str:
    """Return what ``ssl_wb.api`` exports, by purpose, with the first sentence of each docstring."""
    from ssl_wb import api

    groups: dict[str, list[str]] = {title: [] for title in GROUPS.values()}
    others: list[str] = []
    for name in sorted(api.__all__, key=str.lower):
        value = getattr(api, name)
        module = str(getattr(value, "__module__", ""))
        if not callable(value) or not module.startswith("ssl_wb"):
            others.append(f"`{name}`")
            continue
        title = GROUPS[max((one for one in GROUPS if module.startswith(one)), key=len)]
        groups[title].append(f"| `{name}` | {escape(as_markdown(first_sentence(value)))} |")
    parts = [
        "\n".join([f"### {title}\n", "| name | what it is |", "| --- | --- |", *rows, ""])
        for title, rows in groups.items()
    ]
    parts.append(
        "Constants, types for annotations, and what plugins need of pydantic (`Field`, validators) and pluggy "
        f"(`hookimpl`): {', '.join(others)}.\n"
    )
    return "\n".join(parts)


def first_sentence(value: object) -> str:
    """Return the first sentence of a docstring, without the roles of Sphinx."""
    text = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
    text = re.sub(r":\w+:`([^`]*)`", r"``\1``", text)
    return re.split(r"(?<!et al\.)(?<=\.)\s", text, maxsplit=1)[0]


def between_marks(path: Path, text: str) -> str:
    """Return a page with the part between the marks replaced."""
    page = path.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def stale() -> list[str]:
    """Return the files whose text is not what this script would write."""
    return [
        str(path.relative_to(ROOT))
        for path, text in written().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit("\n".join(stale()) or 0)
    for target, content in written().items():
        target.write_text(content, encoding="utf-8")
