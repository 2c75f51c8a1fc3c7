"""Plugins written for version 0.1 (api1/), unchanged, train, evaluate and embed with the numbers that 0.1 gave.

The numbers are in api1-expected.json, which make_api1_expected.py wrote with version 0.1.
"""

from __future__ import annotations

import importlib
import json
import tomllib
import warnings
from pathlib import Path

import pytest
import torch

import ssl_wb
from ssl_wb.encoder.load import load_encoder
from ssl_wb.encoder.uncertainty import load_uncertainty
from ssl_wb.plugin.registry import load_registry

HERE = Path(__file__).parent
EXPECTED = json.loads((HERE / "api1-expected.json").read_text())
#: What the plugins use by its old name.
OLD_NAMES = {
    "View.branches is now View.mlp_outputs",
    "View.finish is now View.final_norm",
    "Trunk.finish is now Trunk.final_norm",
    "ConvTrunk.finish: rename it to final_norm",
    "ConvTrunk.layers_and_branches: rename it to layers_and_mlp_outputs",
    "the need 'branches' is now called 'mlp_outputs'",
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Put the package on the path with the metadata that pip would write, and look for plugins again."""
    site = tmp_path_factory.mktemp("site")
    project = tomllib.loads((HERE / "api1" / "pyproject.toml").read_text())["project"]
    metadata = site / "ssl_wb_api1-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [f"{name} = {module}" for name, module in project["entry-points"]["ssl_wb"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[ssl_wb]", *lines, ""]))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        patch.syspath_prepend(HERE / "api1")
        importlib.invalidate_caches()
        yield load_registry(refresh=True)
    importlib.invalidate_caches()
    load_registry(refresh=True)


@pytest.fixture(scope="module")
def trained(installed, tmp_path_factory):
    """The shipped recipe, trained and probed: its run folder and the warnings."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order round differently
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            folder = ssl_wb.train("ssl_wb_api1", out=tmp_path_factory.mktemp("api1") / "run", cpu=True, quiet=True)
    finally:
        torch.set_num_threads(before)
    return folder, caught


@pytest.fixture(scope="module")
def run(trained) -> Path:
    return trained[0]


def close(value, relative: float = 1e-4):
    """Equal but for rounding, which 20 steps of training enlarge."""
    return pytest.approx(value, rel=relative, abs=1e-5, nan_ok=True)


def test_they_load(installed):
    found = {(one.kind, one.name, one.status) for one in installed.records if one.distribution == "ssl-wb-api1"}
    assert found == {
        ("masker", "api1-novelty", "active"),
        ("objective", "api1-ladder", "active"),
        ("objective", "api1-codes", "active"),
        ("backbone", "api1-conv", "active"),
        ("evaluator", "api1-class-means", "active"),
        ("evaluator", "api1-frame-means", "active"),
        ("evaluator", "api1-layer-means", "active"),
        ("evaluator", "api1-listener", "active"),
    }
    assert ("ssl-wb-api1", HERE / "api1" / "ssl_wb_api1.toml") in installed.recipes()


def test_every_step_has_the_losses_of_0_1(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps, probes = [one for one in lines if "loss" in one], [one["probe"] for one in lines if "probe" in one]
    assert len(steps) == len(EXPECTED["metrics"]) == 20
    for number, (step, expected) in enumerate(zip(steps, EXPECTED["metrics"], strict=True)):
        assert {key: step[key] for key in expected} == close(expected), f"step {number + 1}"
    assert probes == [close(one) for one in EXPECTED["probes"]]


def test_every_result_is_that_of_0_1(run):
    rows = {
        f"{one['role']} {one['encoder'].replace(run.name, 'RUN')} {one['evaluator']}": one
        for one in json.loads((run / "results.json").read_text())
    }
    assert list(rows) == list(EXPECTED["results"])
    for name, expected in EXPECTED["results"].items():
        row = rows[name]
        for key in ("mean", "per_seed", "per_fold", "table"):
            assert row[key] == close(expected[key]), f"{name}: {key}"
        for key in ("metric", "interval", "notes"):
            assert row[key] == expected[key], f"{name}: {key}"


def test_the_embeddings_are_those_of_0_1(run):
    time = torch.arange(24000) / 16000
    waveforms = torch.stack([0.3 * torch.sin(6000 * time), 0.2 * torch.sin((1000 + 2000 * time) * time)])  # [2, S]
    lengths = torch.tensor([24000, 9000])
    encoder = load_encoder(run)
    found = {
        "clip": encoder.embed_clip(waveforms, lengths),
        "frames": encoder.embed_frames(waveforms, lengths).mean(dim=-1),
        "layers": encoder.layers(waveforms).mean(dim=-1),
        "uncertainty": load_uncertainty(run).frames(waveforms, lengths),
    }
    for name, expected in EXPECTED["embeddings"].items():
        assert found[name].flatten().tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4), name


def test_only_deprecation_warnings_are_new(trained):
    ours = [
        one for one in trained[1] if Path(one.filename).parent == HERE / "api1" or "ssl_wb" in Path(one.filename).parts
    ]
    assert {one.category for one in ours} == {DeprecationWarning}
    assert {str(one.message) for one in ours} >= OLD_NAMES


def test_their_sources_import_the_api_alone():
    for source in (HERE / "api1").glob("ssl_wb_api1_*.py"):
        imported = [
            line.split()[1] for line in source.read_text().splitlines() if line.startswith(("from ", "import "))
        ]
        assert {one for one in imported if one.startswith("ssl_wb")} == {"ssl_wb.api"}, source.name
