"""Third-party plugins as a user has them: installed by pip, found by a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent
NAMES = ("checkerboard", "broken", "clashing", "future")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Install the four samples with pip into a folder of their own; pip fetches their build backend."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    done = subprocess.run(
        [*command, *(str(SAMPLES / name) for name in NAMES)], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, f"pip could not install the samples:\n{done.stderr}"
    return folder


@pytest.fixture
def fresh(site):
    """Run a fresh python that sees the samples."""

    def start(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SSL_WB_")}
        environment = {**clean, "PYTHONPATH": path, **environment}
        return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=120, env=environment)

    return start


def samples_in(listing: str) -> dict[str, tuple[str | None, str, str]]:
    """Return kind, name and status of each sample's plugin by distribution."""
    return {
        one["distribution"]: (one["kind"], one["name"], one["status"])
        for one in json.loads(listing)
        if one["distribution"].startswith("ssl-wb-")
    }


def test_list_plugins_with_all_four(fresh):
    done = fresh("-m", "ssl_wb", "list-plugins", "--json")
    assert done.returncode == 0, done.stderr
    assert samples_in(done.stdout) == {
        "ssl-wb-checkerboard": ("masker", "checkerboard", "active"),
        "ssl-wb-broken": (None, "broken", "broken"),
        "ssl-wb-clashing": ("masker", "random", "active"),
        "ssl-wb-future": (None, "future", "incompatible"),
    }
    listed = {(one["distribution"], one["name"]): one for one in json.loads(done.stdout)}
    assert listed["ssl-wb", "vit"]["status"] == "active"
    error = listed["ssl-wb-broken", "broken"]["error"]
    assert error == "RuntimeError: this sample is broken on purpose (ssl_wb_broken.py:3)"
    assert listed["ssl-wb-checkerboard", "checkerboard"]["version"] == "0.1.0"
    for name in ("broken", "future"):
        start = f"warning: plugin {name!r} "
        (line,) = [line for line in done.stderr.splitlines() if line.startswith(start)]
        assert f"SSL_WB_BLOCK_PLUGINS={name}" in line
        assert f"pip uninstall ssl-wb-{name}" in line


def test_a_name_that_two_offer(fresh):
    bare = fresh("-m", "ssl_wb", "describe", "masker", "random")
    assert bare.returncode == 4
    for qualified in ("ssl-wb/random", "ssl-wb-clashing/random"):
        assert repr(qualified) in bare.stderr
    named = fresh("-m", "ssl_wb", "describe", "masker", "ssl-wb-clashing/random")
    assert named.returncode == 0
    assert named.stdout.startswith("masker random  (ssl-wb-clashing 0.1.0)\n\nMasks half of the patches at random.")


def test_blocked_by_either_name(fresh):
    done = fresh(*("-m", "ssl_wb", "list-plugins", "--json"), SSL_WB_BLOCK_PLUGINS="broken,ssl-wb-clashing,future")
    assert done.returncode == 0
    found = samples_in(done.stdout)
    assert {found[f"ssl-wb-{name}"][2] for name in ("broken", "clashing", "future")} == {"blocked"}
    assert "ssl-wb-" not in done.stderr


def test_strict(fresh):
    done = fresh("-m", "ssl_wb", "list-plugins", SSL_WB_STRICT_PLUGINS="1", SSL_WB_BLOCK_PLUGINS="future")
    assert (done.returncode, done.stdout) == (4, "")
    assert "error: plugin 'broken' (ssl-wb-broken 0.1.0) is broken: RuntimeError" in done.stderr
    assert "Traceback" not in done.stderr


MASK = """
import sys
import torch
from ssl_wb.api import Grid, MaskRequest
from ssl_wb.plugin.registry import load_registry

plugin = load_registry().get("masker", "checkerboard")
for phase in (0, 1):
    masker = plugin(plugin.Options(phase=phase))
    patches = torch.zeros(3, 12, 4)
    (mask,) = masker(MaskRequest(patches, Grid(3, 4), 0.0, torch.Generator()))
    both = torch.cat([mask.visible, mask.masked], 1).sort(1).values
    assert torch.equal(both, torch.arange(12).expand(3, 12))
    print(mask.masked[2].tolist())
"""


def test_the_checkerboard_masks_every_other_patch(fresh):
    done = fresh("-c", MASK)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[0, 2, 5, 7, 8, 10]", "[1, 3, 4, 6, 9, 11]"]


def test_a_recipe_selects_it_and_trains_with_it(fresh, tmp_path):
    run = tmp_path / "run"
    settings = (
        "masker.name=checkerboard",
        "masker.phase=1",
        "data.scenes.clips=20",
        "train.steps=2",
        "train.batch_size=4",
        "evaluate=[]",
    )
    words = [word for setting in settings for word in ("--set", setting)]
    done = fresh("-m", "ssl_wb", "train", "quickstart", "--cpu", "--out", str(run), *words)
    assert done.returncode == 0, done.stderr
    assert 'name = "checkerboard"\nphase = 1\n' in (run / "recipe.resolved.toml").read_text()
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 2
    plugins = json.loads((run / "environment.json").read_text())["plugins"]
    assert {"kind": "masker", "name": "checkerboard", "distribution": "ssl-wb-checkerboard"}.items() <= next(
        plugin for plugin in plugins if plugin["name"] == "checkerboard"
    ).items()
