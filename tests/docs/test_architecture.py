"""The page of the house names the rooms that are there, and functions that exist."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import get_args

import pytest
from pages import DOCS, ROOT

from ssl_wb.plugin.objective import Need

PAGE = (DOCS / "architecture.md").read_text(encoding="utf-8")
#: ``room/file.py: Class.function`` of the three walks.
STEPS = re.findall(r"`([\w/.]+\.py): ([\w.]+)`", PAGE)


def test_every_room_has_its_row():
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        from test_rooms import FLOORS
    finally:
        sys.path.remove(str(ROOT / "tests"))
    section = PAGE.split("## The rooms")[1].split("\n## ")[0]
    rows = [cell for line in section.splitlines() if line.startswith("| `") for cell in line.split("|")[1].split(",")]
    assert {row.strip(" `") for row in rows} == set().union(*FLOORS) - {"__main__"}


def defined(path: Path, dotted: str) -> bool:
    """Whether a file defines a function, class or method."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for name in dotted.split("."):
        found = [
            node
            for node in body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name
        ]
        if not found:
            return False
        body = found[0].body
    return True


@pytest.mark.parametrize(("file", "name"), STEPS)
def test_functions_of_the_walks_exist(file, name):
    roots = [ROOT / "workbench" / "ssl_wb", ROOT / "plugins" / "ssl_wb_plugins"]
    paths = [root / file for root in roots if (root / file).is_file()]
    assert paths, file
    assert defined(paths[0], name)


def test_the_tutorial_names_what_an_objective_may_need():
    table = (DOCS / "plugins.md").read_text(encoding="utf-8").split("| `needs` |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(get_args(Need)) - {"branches"}


def test_the_api_page_has_every_public_call():
    import ssl_wb

    page = (DOCS / "python-api.md").read_text(encoding="utf-8")
    for name in set(ssl_wb.__all__) - {"__version__"}:
        assert f".{name}\n" in page, name
        assert f"::: ssl_wb.{name}\n" not in page  # a lazy name, which the page's builder cannot read
