"""A small recipe, a few sounds, a run."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

RECIPE = """
title = "Small"
seed = 3
[data]
clip_seconds = 1.0
[front_end]
n_mels = 32
[masker]
name = "random"
ratio = 0.6
[backbone]
name = "vit"
dim = 16
depth = 2
heads = 2
patch = [16, 8]
[predictor]
dim = 16
depth = 1
heads = 1
[[objective]]
name = "malap"
[train]
steps = 2
batch_size = 2
"""


def sound(seconds: float, seed: int) -> np.ndarray:
    """Noise with a loud burst of a tone in it, so that patches differ."""
    generator = np.random.default_rng(seed)
    count = int(16000 * seconds)
    burst = np.zeros(count)
    burst[count // 4 : count // 2] = 0.5 * np.sin(np.arange(count // 2 - count // 4) * 0.4)
    return generator.normal(size=count) * 0.01 + burst


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Folder with small.toml, one.wav, two.wav, short.wav and silent.wav."""
    folder = tmp_path_factory.mktemp("preview")
    (folder / "small.toml").write_text(RECIPE)
    for number, (name, seconds) in enumerate({"one": 1.6, "two": 2.0, "short": 0.6}.items()):
        soundfile.write(folder / f"{name}.wav", sound(seconds, number), 16000)
    soundfile.write(folder / "silent.wav", np.zeros(32000), 16000)
    return folder


@pytest.fixture(scope="session")
def small_run(small):
    """Run folder of the small recipe, after two steps."""
    from ssl_wb.workflows.pretrain import train

    data = small / "data"
    data.mkdir()
    for number in range(4):
        soundfile.write(data / f"{number}.wav", sound(1.2, 10 + number), 16000)
    settings = [f"data.train={data}", "data.workers=0", "optimizer.lr=0.1", "train.warmup=0"]
    return train(small / "small.toml", overrides=settings, out=small / "run", quiet=True, cpu=True)
