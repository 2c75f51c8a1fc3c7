"""Who may import whom: strictly down the rooms, no circle; no bundled plugin in the host; plugins the API only."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOST = ROOT / "workbench" / "ssl_wb"
PLUGINS = ROOT / "plugins" / "ssl_wb_plugins"

#: Rooms (packages and modules of ssl_wb) from the ground up. A room imports rooms of lower floors only, and none that
#: stands beside it.
FLOORS: list[set[str]] = [
    {"errors", "files"},
    {"layers", "audio"},
    {"plugin"},
    {"scoring"},
    {"probing"},
    {"api"},
    {"recipe"},
    {"runs", "data"},
    {"tasks", "pretext"},
    {"training", "encoder"},
    {"evaluation", "bench", "sweep", "testing", "huggingface"},
    {"report", "scaffold"},
    {"workflows"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

#: The lazy facade: it names what it imports on first use.
FACADE = "ssl_wb"


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_modules(root: Path) -> dict[str, str]:
    """Return the source of every module below a package's folder, by name."""
    return {module_name(path, root): path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.py"))}


def imported(source: str, modules: Iterable[str] = ()) -> list[str]:
    """Return the names of all modules that a source imports, wherever in it; relative ones as they are written.

    ``from package import name`` imports the module ``package.name`` where there is one.
    """
    known = set(modules)
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            below = [f"{base}.{alias.name}" for alias in node.names]
            if base == FACADE:
                names += below
            else:
                found = [name for name in below if name in known]
                names += found if len(found) == len(below) else [base, *found]
    return names


def room_of(module: str) -> str:
    return module.split(".")[1]


def floor_violations(modules: Mapping[str, str]) -> list[str]:
    """Return a line for each import that does not go down from one room to another."""
    found = []
    for name, source in modules.items():
        if name == FACADE:
            continue
        if room_of(name) not in FLOOR:
            found.append(f"{name}: room {room_of(name)!r} has no floor; name it in FLOORS")
            continue
        for target in imported(source, modules):
            if target.startswith("."):
                found.append(f"{name} imports {target}: imports are absolute")
            parts = target.split(".")
            if parts[0] != FACADE or len(parts) < 2 or parts[1] in ("__version__", room_of(name)):
                continue
            if parts[1] not in FLOOR:
                found.append(f"{name} imports {target}, which has no floor")
            elif FLOOR[parts[1]] >= FLOOR[room_of(name)]:
                where = "beside" if FLOOR[parts[1]] == FLOOR[room_of(name)] else "above"
                found.append(f"{name} imports {target}, which is {where} it")
    return found


def circles(modules: Mapping[str, str]) -> Iterator[list[str]]:
    """Yield circles of modules that import each other, in functions too; blocks for type checkers do not run."""
    graph = {
        name: [
            target for target in dict.fromkeys(imported(without_type_checking(source), modules)) if target in modules
        ]
        for name, source in modules.items()
        if name != FACADE
    }
    done: set[str] = set()
    for start in graph:
        stack: list[tuple[str, list[str]]] = [(start, [start])]
        while stack:
            here, path = stack.pop()
            for target in graph.get(here, ()):
                if target == start:
                    yield [*path, start]
                elif target not in path and target not in done and target in graph:
                    stack.append((target, [*path, target]))
        done.add(start)


def without_type_checking(source: str) -> str:
    """Return a source without its blocks for type checkers."""

    class Cut(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST:
            if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                return ast.Pass()
            self.generic_visit(node)
            return node

    return ast.unparse(Cut().visit(ast.parse(source)))


HOST_MODULES = read_modules(HOST)


def test_there_is_something_to_look_at():
    assert len(HOST_MODULES) > 30
    assert len(plugin_files()) > 10


def test_rooms_import_strictly_down():
    violations = floor_violations(HOST_MODULES)
    assert not violations, "\n".join(violations)


def test_no_circle_between_files():
    found = [" -> ".join(circle) for circle in circles(HOST_MODULES)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("planted", "expected"),
    [
        ({"ssl_wb.plugin.x": "from ssl_wb.training.loop import Trainer"}, "which is above it"),
        ({"ssl_wb.plugin.x": "def late():\n    import ssl_wb.cli.main"}, "which is above it"),
        ({"ssl_wb.training.x": "from ssl_wb.encoder.load import load_encoder"}, "which is beside it"),
        ({"ssl_wb.encoder.x": "from ssl_wb import training"}, "which is beside it"),
        ({"ssl_wb.attic.x": "import torch"}, "has no floor"),
        ({"ssl_wb.cli.x": "from . import main"}, "imports are absolute"),
    ],
)
def test_a_planted_import_is_found(planted, expected):
    found = floor_violations({**HOST_MODULES, **planted})
    assert any(next(iter(planted)) in line and expected in line for line in found)


def test_a_planted_circle_is_found():
    planted = {
        "ssl_wb.data.one": "def late():\n    from ssl_wb.data.two import f",
        "ssl_wb.data.two": "from ssl_wb.data import one",
    }
    assert any(set(circle) == set(planted) for circle in circles({**HOST_MODULES, **planted}))


def plugin_files() -> list[Path]:
    samples = (ROOT / "tests" / "third_party").glob("*/ssl_wb_*.py")
    return sorted([*PLUGINS.rglob("*.py"), *samples])


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sorted(HOST.rglob("*.py")), ids=shown)
def test_the_host_never_imports_the_bundled_plugins(path):
    source = path.read_text(encoding="utf-8")
    assert not [name for name in imported(source) if name.split(".")[0] == "ssl_wb_plugins"]
    strings = [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert not [text for text in strings if text.startswith("ssl_wb_plugins")]


@pytest.mark.parametrize("path", plugin_files(), ids=shown)
def test_plugins_import_only_the_api(path):
    host = [name for name in imported(path.read_text(encoding="utf-8")) if name.split(".")[0] == "ssl_wb"]
    assert set(host) <= {"ssl_wb.api"}


def test_every_way_of_writing_an_import_is_read():
    source = (
        "import ssl_wb.training.loop\nfrom ssl_wb import registry\n"
        "from . import x\nfrom ssl_wb.cli.main import app\n"
        "def late():\n    from ssl_wb_plugins.maskers import random\n"
    )
    assert sorted(imported(source)) == [
        *(".", "ssl_wb.cli.main", "ssl_wb.registry", "ssl_wb.training.loop", "ssl_wb_plugins.maskers"),
    ]


def long_functions(source: str) -> list[str]:
    """Return the functions of more than 50 lines, docstring aside, that have no reason in a comment above them."""
    lines, found = source.splitlines(), []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef):
            continue
        documented = ast.get_docstring(node) is not None
        text = node.body[0].end_lineno - node.body[0].lineno + 1 if documented else 0
        if node.end_lineno - node.lineno + 1 - text <= 50:
            continue
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        if not lines[first - 2].strip().startswith("#"):
            found.append(node.name)
    return found


@pytest.mark.parametrize("path", sorted([*HOST.rglob("*.py"), *PLUGINS.rglob("*.py")]), ids=shown)
def test_files_and_functions_are_short(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 350
    assert long_functions(source) == []


def test_a_long_function_is_found_unless_a_comment_says_why():
    body = "def long():\n" + "    x = 1\n" * 51
    assert long_functions(body) == ["long"] == long_functions("# module\n\n" + body)
    assert long_functions("# One table of figures.\n" + body) == []
    assert long_functions("@cache\n" + body) == ["long"]
