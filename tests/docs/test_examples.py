"""The examples of the pages work: TOML loads, Python runs, tables and generated parts are current."""

from __future__ import annotations

import csv
import io
import re
import sys

import numpy as np
import pytest
import soundfile
import tomli
import torch
from pages import DOCS, PAGES, ROOT, blocks, named

from probe_tasks import blobs
from ssl_wb.api import Grid, Mask, MaskRequest, ModelShapes, StepState, View
from ssl_wb.plugin.kinds import KINDS
from ssl_wb.plugin.registry import load_registry
from ssl_wb.recipe.load import load_recipe
from ssl_wb.sweep.load import load_sweep
from ssl_wb.testing import check_plugin, mask_request

SNIPPETS = [
    pytest.param(text, id=f"{named(page)}-{number}")
    for page in PAGES
    for number, (language, text) in enumerate(blocks(page))
    if language == "toml" and not text.startswith("# pyproject.toml")
]


@pytest.mark.parametrize("text", SNIPPETS)
def test_recipes_and_parts_of_recipes_load(text, tmp_path):
    tables = tomli.loads(text)
    if "axis" in tables:
        sweep = tmp_path / "snippet.toml"
        sweep.write_text(text, encoding="utf-8")
        assert load_sweep(sweep).cells
        return
    if "extends" in tables:
        text = text.replace(f'"{tables["extends"]}"', f'"{tables["extends"].removesuffix(".toml")}"')
    elif not {"masker", "backbone", "objective", "train"} <= tables.keys():
        text = 'extends = "m2d-small"\n' + text
    recipe = tmp_path / "snippet.toml"
    recipe.write_text(text, encoding="utf-8")
    load_recipe(recipe)


def python_of(page, first_words: str = "") -> str:
    found = [text for language, text in blocks(page) if language == "python" and text.startswith(first_words)]
    assert len(found) == 1
    return found[0]


def mask_of(source: str, **options) -> list[int]:
    names: dict = {}
    exec(compile(source, "page", "exec", dont_inherit=True), names)
    (plugin,) = names["ssl_wb_maskers"]()
    (mask,) = plugin(plugin.Options(**options))(MaskRequest(torch.zeros(2, 12, 4), Grid(3, 4), 0.0, torch.Generator()))
    return mask.masked[1].tolist()


def test_the_masker_of_the_readme_and_of_the_tutorial():
    assert mask_of(python_of(ROOT / "README.md", "# checkerboard.py")) == [1, 3, 4, 6, 9, 11]
    assert mask_of(python_of(DOCS / "plugins.md", "# checkerboard.py"), phase=1) == [1, 3, 4, 6, 9, 11]
    assert mask_of(python_of(DOCS / "plugins.md", "# checkerboard.py"), phase=0) == [0, 2, 5, 7, 8, 10]


def test_the_tutorials_test_of_its_masker():
    parts = ["# checkerboard.py", "from ssl_wb.testing import check_plugin", "pytest_plugins"]
    source = "\n".join(python_of(DOCS / "plugins.md", part) for part in parts)
    names: dict = {}
    exec(compile(source, "page", "exec", dont_inherit=True), names)
    names["test_half_is_masked"](mask_request(torch.randn(4, 160, 64), Grid(8, 20)))


def test_the_objective_of_the_tutorial():
    names: dict = {}
    exec(compile(python_of(DOCS / "plugins.md", "# smooth.py"), "page", "exec", dont_inherit=True), names)
    (plugin,) = names["ssl_wb_objectives"]()
    shapes = ModelShapes(latent_dim=6, feature_dim=4, patch_pixels=4, grid=Grid(3, 4), views=1, total_steps=10)
    objective = plugin(plugin.Options(), shapes)
    mask = Mask(torch.arange(5)[None].expand(2, -1), torch.arange(5, 12)[None].expand(2, -1))
    view = View(mask, torch.zeros(2, 5, 6), torch.zeros(2, 12, 4))
    view.features, view.target = torch.randn(2, 7, 4), torch.randn(2, 7, 6)
    output = objective(StepState(Grid(3, 4), (view,), 0, 10))
    assert output.loss.ndim == 0
    assert output.prediction[0].shape == view.target.shape
    output.loss.backward()
    assert objective.head.weight.grad is not None
    check_plugin(plugin)


def test_the_evaluator_of_the_tutorial():
    names: dict = {}
    exec(compile(python_of(DOCS / "plugins.md", "# cosine.py"), "page", "exec", dont_inherit=True), names)
    (plugin,) = names["ssl_wb_evaluators"]()
    result = plugin(plugin.Options(epochs=20))(blobs(spread=0.5, held_out=True), (0, 1))
    assert result.mean > 0.95
    check_plugin(plugin, {"epochs": 2, "resamples": 100})


@pytest.mark.parametrize("page", ["README.md", "workbench/docs/first-hour.md", "workbench/docs/python-api.md"])
def test_the_embedding_examples(page):
    (source,) = [text for language, text in blocks(ROOT / page) if language == "python" and "load_encoder" in text]
    source = re.sub(r"^run = .*$", "", source, flags=re.MULTILINE)
    source = re.sub(
        r"load_encoder\((run|\"[^\"]+\")\)", f"load_encoder({str(ROOT / 'tests/fixtures/run-0.1')!r})", source
    )
    names: dict = {"waveform": torch.randn(2, 16000), "lengths": torch.tensor([16000, 12000])}
    exec(compile(source, page, "exec", dont_inherit=True), names)
    assert names["clips"].shape == (2, names["encoder"].dim)


def test_the_manifest_example_is_read(tmp_path):
    from ssl_wb.data.clips import load_clips

    (text,) = [text for language, text in blocks(DOCS / "your-data.md") if language == "csv"]
    for row in csv.DictReader(io.StringIO(text)):
        path = tmp_path / row["path"]
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.zeros(16000, dtype=np.float32), 16000)
    (tmp_path / "clips.csv").write_text(text, encoding="utf-8")
    assert len(load_clips(tmp_path / "clips.csv")) == 2


def test_the_packaging_example_is_that_of_the_sample():
    (text,) = [text for language, text in blocks(DOCS / "plugins.md") if text.startswith("# pyproject.toml")]
    shown = tomli.loads(text)
    assert shown["project"]["entry-points"]["ssl_wb"] == {"checkerboard": "checkerboard"}
    assert shown["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"] == ["checkerboard.py"]


def test_the_quickstart_table_has_one_source():
    rows = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    figures = [row for row in rows if row.rstrip("| ").endswith(")") and "-" in row and "linear" not in row]
    assert len(figures) == 4
    source = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    assert all(row in source for row in figures)


@pytest.mark.slow
def test_generated_parts_are_current(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    try:
        import make_reference

        assert make_reference.stale() == [], "run: python workbench/docs/make_reference.py"
    finally:
        for name in ("make_reference", "reference_keys", "reference_commands", "reference_house"):
            sys.modules.pop(name, None)


def test_the_reference_has_every_section_and_every_plugin_that_a_recipe_names():
    page = (DOCS / "recipe-keys.md").read_text(encoding="utf-8")
    for kind, spec in KINDS.items():
        path = ".".join(spec.section)
        if not path:
            continue
        assert (f"`[[{path}]]`" if spec.listed else f"`[{path}]`") in page
        for name in load_registry().names(kind):
            assert f'`name = "{name}"`' in page, (kind, name)


def test_recipes_name_their_schema():
    for path in (ROOT / "recipes").glob("*.toml"):
        assert path.read_text(encoding="utf-8").startswith("#:schema ./recipe.schema.json\n# "), path


TABLES = {
    "msm-mae": ("msm-mae", "msm-mae-small"),
    "m2d": ("m2d", "m2d-small"),
    "matpac": ("matpac",),
    "matpac-plus-plus": ("matpac-plus-plus", "matpac-plus-plus-small"),
    "audiomosaic": ("audiomosaic", "audiomosaic-small"),
    "eat": ("eat", "eat-small"),
}


@pytest.mark.parametrize("method", TABLES)
def test_settings_of_a_method_page_are_those_of_its_recipes(method):
    page = (DOCS / "methods" / f"{method}.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith("| batch, length")]
    for cell, name in zip(row.strip("| ").split(" | ")[1:], TABLES[method], strict=True):
        train = load_recipe(name).recipe.train
        length = f"{train.steps:,} steps" if train.steps else f"{train.epochs:g} epochs"
        assert cell.startswith(f"{train.batch_size:,} clips, {length}"), name
