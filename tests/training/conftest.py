"""A tiny corpus and a tiny recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

RECIPE = """
title = "tiny"
seed = 3
[data]
train = "{data}"
clip_seconds = 0.8
workers = 0
[masker]
name = "random"
[backbone]
name = "vit"
dim = 32
depth = 2
heads = 2
[predictor]
dim = 16
depth = 1
heads = 2
[teacher]
decay = [0.9, 0.99]
[[objective]]
name = "mcl"
hypotheses = 3
[[objective]]
name = "dino"
prototypes = 16
hidden = 32
bottleneck = 8
[optimizer]
lr = 1e-3
[train]
steps = 12
batch_size = 8
checkpoint_every = 4
log_every = 3
precision = "fp32"
"""


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Twenty clips of noise and tones, 0.5 to 1.5 s."""
    folder = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    for number in range(20):
        time = np.arange(int(16000 * random.uniform(0.5, 1.5))) / 16000
        wave = 0.3 * np.sin(2 * np.pi * random.uniform(100, 4000) * time) + 0.05 * random.standard_normal(len(time))
        soundfile.write(folder / f"{number:02d}.wav", wave, 16000)
    return folder


@pytest.fixture(scope="session")
def recipe_text(corpus) -> str:
    return RECIPE.format(data=corpus)


@pytest.fixture
def recipe(tmp_path, recipe_text) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(recipe_text)
    return path
