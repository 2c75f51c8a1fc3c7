"""Tests of the augmentation."""

from __future__ import annotations

import numpy as np

from ssl_wb.scaffold.templates.augmentation import NewPlugin, NewPluginOptions

SAMPLES = np.random.default_rng(0).normal(size=16000).astype(np.float32)  # [L]


def test_it_keeps_its_input_and_the_type() -> None:
    """The input may not be changed in place."""
    before = SAMPLES.copy()
    after = NewPlugin(NewPluginOptions(), 16000)(SAMPLES)
    assert after.dtype == np.float32
    assert np.isfinite(after).all()
    assert np.array_equal(SAMPLES, before)
    assert not np.array_equal(after, before)


def test_the_seed_decides() -> None:
    """Equal seeds give equal waveforms."""
    augmentation = NewPlugin(NewPluginOptions(), 16000)
    outputs = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        outputs.append(augmentation(SAMPLES))
    assert np.array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])


def test_probability_0_changes_nothing() -> None:
    """An augmentation that is not drawn returns its input."""
    assert NewPlugin(NewPluginOptions(p=0.0), 16000)(SAMPLES) is SAMPLES
