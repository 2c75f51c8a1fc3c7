"""The tutorial from an idea to a comparison: its commands work, one after the other, as far as they are cheap."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from pages import DOCS

from ssl_wb.api import Grid
from ssl_wb.cli.main import run
from ssl_wb.plugin.registry import load_registry
from ssl_wb.recipe.load import load_recipe
from ssl_wb.testing import check_plugin, mask_request

NAME = "stripes"
SECTION = (
    (DOCS / "plugins.md").read_text(encoding="utf-8").split("## From an idea to a comparison")[1].split("\n## ")[0]
)
#: Commands that take minutes: test_commands_in_pages.py parses them.
LONG = {"train", "evaluate"}


def install(project: Path, site: Path) -> None:
    """Write the metadata that pip would write for a project."""
    told = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = site / f"ssl_wb_{NAME}-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {told['name']}\nVersion: {told['version']}\n")
    lines = [f"{name} = {module}" for name, module in told["entry-points"]["ssl_wb"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[ssl_wb]", *lines, ""]))


def edit(module: Path) -> None:
    """Put the page's code in place of the body of ``__call__``."""
    (body,) = re.findall(r"```python\n(.*?)```", SECTION, flags=re.DOTALL)
    source = module.read_text(encoding="utf-8")
    head, docstring, rest = re.split(r'("""Return one mask; .*?"""\n)', source, maxsplit=1)
    after = rest[rest.index("\n\n\n@hookimpl") :]
    lines = [f"        {line}" for line in body.rstrip("\n").splitlines()]
    module.write_text(head + docstring + "\n".join(lines) + after, encoding="utf-8")


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """Walk through the section; return the project's folder, what each command printed, and those left out."""
    folder, site = tmp_path_factory.mktemp("tutorial"), tmp_path_factory.mktemp("site")
    printed: dict[str, str] = {}
    left_out: list[str] = []
    with pytest.MonkeyPatch.context() as patch, pytest.MonkeyPatch.context() as path:
        patch.chdir(folder)
        for line in "\n".join(re.findall(r"```sh\n(.*?)```", SECTION, flags=re.DOTALL)).splitlines():
            words = shlex.split(line.replace("NAME", NAME).replace("CLIP.wav", "clip.wav"))
            match words:
                case ["cd", place]:
                    patch.chdir(place)
                case ["pip", *_]:
                    edit(Path(f"ssl_wb_{NAME}/__init__.py"))
                    install(Path.cwd(), site)
                    path.syspath_prepend(site)
                    path.syspath_prepend(Path.cwd())
                    importlib.invalidate_caches()
                    load_registry(refresh=True)
                    noise = np.random.default_rng(0).normal(scale=0.1, size=32000)
                    soundfile.write("clip.wav", noise, 16000)
                case ["pytest"]:
                    check_plugin(load_registry().get("masker", NAME))  # what the project's own tests do
                case ["ssl-wb", verb, *_] if verb in LONG:
                    left_out.append(verb)
                case ["ssl-wb", verb, *_]:
                    printed[verb] = shown(words[1:])
        yield Path.cwd(), printed, left_out
    importlib.invalidate_caches()
    load_registry(refresh=True)


def shown(words: list[str]) -> str:
    """Run a command; return what it prints."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        assert run(words) == 0, words
    return stream.getvalue()


def test_every_step_is_there(walked):
    project, printed, left_out = walked
    assert project.name == f"ssl-wb-{NAME}"
    assert list(printed) == ["new-plugin", "list-plugins", "describe", "validate", "preview"]
    assert left_out == ["train", "train", "evaluate"]


def test_it_is_listed_and_described(walked):
    _, printed, _ = walked
    assert NAME in printed["list-plugins"]
    assert "Share of patches masked." in printed["describe"]


def test_the_picture_is_drawn(walked):
    assert (walked[0] / "masks.png").stat().st_size > 1000


def test_the_idea_is_what_is_installed(walked):
    """Whole columns are masked, and one in part where the count asks for it."""
    plugin = load_registry().get("masker", NAME)
    grid = Grid(8, 20)
    (mask,) = plugin(plugin.Options(ratio=0.7))(mask_request(torch.zeros(4, grid.cells, 64), grid))
    hidden = torch.zeros(4, grid.cells).scatter_(1, mask.masked, 1.0).view(4, *grid)
    assert ((hidden.mean(dim=1) == 1.0).sum(dim=1) == 14).all()  # of 20 columns


def test_its_recipe_can_be_compared_with_random(walked):
    settings = shlex.split(next(line for line in SECTION.splitlines() if "runs/random --set" in line))
    changes = [word for word in settings if "=" in word]
    own, other = load_recipe(NAME, changes[:-1]), load_recipe(NAME, changes)
    assert (own.masker.name, other.masker.name) == (NAME, "random")
    assert own.recipe == other.recipe
    assert own.recipe.train.steps == 2000
