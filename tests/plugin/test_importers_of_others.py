"""Importers of third parties: the example of the page 'Use an encoder', and the account of tensors they work with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ssl_wb.encoder.importing.convert import importer_of
from ssl_wb.errors import DataError
from ssl_wb.layers.patches import Grid
from ssl_wb.layers.positions import sincos_2d
from ssl_wb.plugin.checkpoint_tensors import CheckpointTensors
from ssl_wb.plugin.importer import Checkpoint
from ssl_wb.plugin.registry import load_registry

PAGE = Path(__file__).parents[2] / "workbench" / "docs" / "encoders.md"


@pytest.fixture
def example() -> str:
    """The importer that the page shows."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return next(block for block in blocks if "class Mine" in block)


def checkpoint() -> Checkpoint:
    dim, hidden = 16, 32
    tensors = {"my_own_tensor": torch.zeros(3), "cls_token": torch.ones(1, 1, dim)}
    tensors["pos_embed"] = torch.cat([torch.zeros(1, dim), sincos_2d(Grid(5, 4), dim)])[None]
    tensors |= {"patch_embed.proj.weight": torch.randn(dim, 1, 16, 16), "patch_embed.proj.bias": torch.zeros(dim)}
    shapes = {
        "attn.qkv": (3 * dim, dim), "attn.proj": (dim, dim), "mlp.fc1": (hidden, dim), "mlp.fc2": (dim, hidden),
        "norm1": (dim,), "norm2": (dim,),
    }  # fmt: skip
    for name, shape in shapes.items():
        tensors[f"blocks.0.{name}.weight"] = torch.randn(shape)
        tensors[f"blocks.0.{name}.bias"] = torch.randn(shape[0])
    return Checkpoint(tensors | {"norm.weight": torch.ones(dim), "norm.bias": torch.zeros(dim)})


def test_the_example_of_the_page_imports(plugin, example):
    registry = load_registry([plugin("mine", example)], environment={})
    importer, found = importer_of(checkpoint(), registry)
    assert importer.name == "mine"
    tensors = found.account()
    encoder = importer(importer.Options()).read(found, tensors)
    assert encoder.frames == 64
    assert encoder.backbone["heads"] == 4
    fates = {one.name: one.fate for one in tensors.finish()}
    assert fates.pop("my_own_tensor") == "left over"
    assert set(fates.values()) == {"used"}


def test_two_importers_that_both_recognise_a_file_are_told(plugin, example):
    other = example.replace('"mine"', '"other"')
    registry = load_registry([plugin("mine", example), plugin("other", other)], environment={})
    with pytest.raises(DataError, match="may be of mine, other") as caught:
        importer_of(checkpoint(), registry)
    assert "--system" in caught.value.hint
    assert importer_of(checkpoint(), registry, "other")[0].name == "other"
    first = example.replace('"mine"', '"first"').replace(
        '    name = "first"', '    name = "first"\n    specificity = 2'
    )
    registry = load_registry([plugin("mine", example), plugin("first", first)], environment={})
    assert importer_of(checkpoint(), registry)[0].name == "first"


def test_sizes_go_by_majority_and_a_tie_names_both_sides():
    tensors = CheckpointTensors({"a": torch.zeros(4), "b": torch.zeros(4, 2), "c": torch.zeros(5)}, "file")
    assert tensors.size("width", {"a": 0, "b": 0, "c": 0}) == 4
    assert tensors.size("width", {"a": 0, "c": 0}, stored=5) == 5
    assert tensors.size("width", {"a": 0, "c": 0}) == 4
    for name in ("a", "b", "c"):
        tensors.leave(name, "of no use")
    with pytest.raises(DataError, match="the width is not the same everywhere: a 4 and c 5"):
        tensors.finish()
    with pytest.raises(DataError, match=r"no tensor tells the width; missing: d\.e"):
        tensors.size("width", {r"d\.e": 0})


def test_all_faults_are_told_at_once_and_whole_numbers_are_no_weights():
    tensors = CheckpointTensors({"a": torch.zeros(4), "b": torch.zeros(2, dtype=torch.int64)}, "file")
    assert_close(tensors.take("a", (5,)), torch.zeros(5))
    tensors.take("b", (2,))
    tensors.take("c", (3, None))
    with pytest.raises(DataError) as caught:
        tensors.finish()
    for part in ("a is [4], expected [5]", "b holds int64", "missing: c [3, *]", "3 tensors do not fit"):
        assert part in caught.value.message


def test_half_precision_is_read_as_float32():
    tensors = CheckpointTensors({"a": torch.ones(2, dtype=torch.bfloat16)}, "file")
    assert tensors.take("a", (2,)).dtype == torch.float32


def test_parts_are_counted_by_those_that_are_whole():
    names = [f"blocks.{number}.{part}" for number in range(3) for part in "abcd"]
    tensors = CheckpointTensors({name: torch.zeros(1) for name in [*names, "blocks.77.a"]}, "file")
    assert tensors.count(r"blocks\.(\d+)\.") == 3
    assert tensors.count(r"blocks\.(\d+)\.", 4) == 4
