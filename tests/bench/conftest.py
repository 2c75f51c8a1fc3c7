"""A recipe small enough to be measured in a test."""

from __future__ import annotations

import pytest

RECIPE = """
title = "tiny"
[data]
clip_seconds = 0.8
workers = 0
[masker]
name = "random"
ratio = 0.6
[backbone]
name = "vit"
dim = 32
depth = 2
heads = 2
[predictor]
dim = 16
depth = 1
heads = 2
[[objective]]
name = "mcl"
hypotheses = 3
[[objective]]
name = "dino"
prototypes = 16
hidden = 32
bottleneck = 8
[train]
steps = 12
batch_size = 4
precision = "fp32"
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "tiny.toml"
    path.write_text(RECIPE)
    return path
