"""Tests of the augmentation."""

from __future__ import annotations

import numpy as np

from ssl_wb.scaffold.templates.augmentation import NewPlugin, NewPluginOptions
from ssl_wb.testing import check_augmentation

SAMPLES = np.random.default_rng(0).normal(size=16000).astype(np.float32)  # [L]


def test_it_keeps_the_contract() -> None:
    """Types, randomness, probability: everything that the workbench asks of an augmentation."""
    check_augmentation(NewPlugin)


def test_the_seed_decides() -> None:
    """Equal seeds give equal waveforms."""
    augmentation = NewPlugin(NewPluginOptions(), 16000)
    outputs = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        outputs.append(augmentation(SAMPLES))
    assert np.array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])
