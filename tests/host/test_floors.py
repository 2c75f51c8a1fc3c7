"""Who may import whom: down the floors only; the host no bundled plugin; a plugin the API only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOST = ROOT / "workbench" / "ssl_wb"
PLUGINS = ROOT / "plugins" / "ssl_wb_plugins"

#: Packages and modules of ssl_wb from the ground up; those of one row may import each other.
FLOORS = [
    {"errors", "suggest", "contracts", "layers", "scoring", "api", "hookspecs"},
    {"discovery", "registry"},
    {"recipe"},
    {"audio", "data"},
    {"pretext"},
    {"train", "encoder", "evaluate"},  # a run probes its encoder while it trains
    {"bench"},
    {"report"},
    {"cli", "__main__"},
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def imported(path: Path) -> list[str]:
    """Return the names of all modules a file imports, wherever in it; relative ones as they are written."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            # `from ssl_wb import registry` imports ssl_wb.registry.
            names += [f"{base}.{alias.name}" if base == "ssl_wb" else base for alias in node.names]
    return names


def host_files() -> list[Path]:
    return sorted(HOST.rglob("*.py"))


def plugin_files() -> list[Path]:
    samples = (ROOT / "tests" / "third_party").glob("*/ssl_wb_*.py")
    return sorted([*PLUGINS.rglob("*.py"), *samples])


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_look_at():
    assert len(host_files()) > 30
    assert len(plugin_files()) > 10


@pytest.mark.parametrize("path", host_files(), ids=shown)
def test_imports_go_down_only(path):
    package = path.relative_to(HOST).parts[0].removesuffix(".py")
    if package == "__init__":
        return  # the two public calls, imported on first use
    assert package in FLOOR, f"{package} has no floor yet: name it in this test"
    for name in imported(path):
        assert not name.startswith("."), f"{shown(path)} imports {name}: imports are absolute"
        parts = name.split(".")
        if parts[0] == "ssl_wb" and len(parts) > 1 and parts[1] != "__version__":
            assert FLOOR[parts[1]] <= FLOOR[package], f"{shown(path)} imports {name}, which is above it"


@pytest.mark.parametrize("path", host_files(), ids=shown)
def test_the_host_never_imports_the_bundled_plugins(path):
    assert not [name for name in imported(path) if name.split(".")[0] == "ssl_wb_plugins"]
    strings = [
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert not [text for text in strings if text.startswith("ssl_wb_plugins")]


@pytest.mark.parametrize("path", plugin_files(), ids=shown)
def test_plugins_import_only_the_api(path):
    host = [name for name in imported(path) if name.split(".")[0] == "ssl_wb"]
    assert set(host) <= {"ssl_wb.api"}


def test_what_the_rules_catch(tmp_path):
    """The reader of imports sees every way of writing one."""
    path = tmp_path / "some.py"
    path.write_text(
        "import ssl_wb.train.loop\nfrom ssl_wb import registry\n"
        "from . import x\nfrom ssl_wb.cli.main import app\n"
        "def late():\n    from ssl_wb_plugins.maskers import random\n"
    )
    assert sorted(imported(path)) == [
        *(".", "ssl_wb.cli.main", "ssl_wb.registry", "ssl_wb.train.loop", "ssl_wb_plugins.maskers"),
    ]
