"""Augmentation of waveforms: pure functions of their generator, in order, on the part that counts."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest

from augmentations_by_name import augmentation
from ssl_wb.data.augmenter import Augmenter
from ssl_wb.errors import RecipeError
from ssl_wb_plugins.augmentations import audiomentations

RATE = 16000

#: AudioMosaic's chain, every member certain.
CHAIN = [
    augmentation("roll"),
    augmentation("gain-beta"),
    augmentation("polarity-inversion", p=1.0),
    augmentation("time-stretch", p=1.0, min_rate=0.7, max_rate=1.3),
    augmentation("add-gaussian-snr", p=1.0),
    augmentation("gain", p=1.0),
    augmentation("high-pass-filter", p=1.0),
    augmentation("band-stop-filter", p=1.0),
    augmentation("pitch-shift", p=1.0),
]


def some(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def noise(samples=4000):
    return (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


@pytest.fixture(scope="module")
def chain():
    return Augmenter(CHAIN, RATE)


def test_a_reading_depends_on_its_generator_alone(chain):
    waveform = noise()
    first = chain(waveform, 4000, some(1))
    random.seed(5)
    np.random.seed(5)
    chain(waveform, 3000, some(2))
    np.testing.assert_array_equal(chain(waveform, 4000, some(1)), first)
    assert not np.array_equal(chain(waveform, 4000, some(2)), first)
    np.testing.assert_array_equal(waveform, noise())  # other views begin from it


def test_the_global_generators_go_on_as_if_nothing_had_been(chain):
    random.seed(7)
    np.random.seed(7)
    expected = (random.random(), np.random.random())
    random.seed(7)
    np.random.seed(7)
    chain(noise(), 4000, some())
    assert (random.random(), np.random.random()) == expected


@pytest.mark.parametrize("length", [1, 2, 100, 1000, 4000])
def test_the_crop_keeps_its_length_and_what_does_not_count_stays_silent(chain, length):
    augmented = chain(noise(), length, some())
    assert (augmented.dtype, augmented.shape) == (np.float32, (4000,))
    assert np.isfinite(augmented).all()
    assert not augmented[length:].any()
    if length > 1:
        assert augmented[:length].any()


def test_silence_stays_finite(chain):
    assert np.isfinite(chain(np.zeros(2000, np.float32), 2000, some())).all()


@pytest.mark.parametrize(("name", "options"), [("time-stretch", {"leave_length_unchanged": False}), ("resample", {})])
def test_what_changes_length_is_cut_or_followed_by_zeros(name, options):
    augment = Augmenter([augmentation(name, p=1.0, **options)], RATE)
    ends = [float(np.abs(augment(noise(), 4000, some(seed))[3900:]).max()) for seed in range(5)]
    assert min(ends) == 0.0 < max(ends)


def test_roll_is_uniform_over_the_part_that_counts():
    augment = Augmenter([augmentation("roll")], RATE)
    ramp = np.arange(1, 9, dtype=np.float32)
    shifts = np.zeros(5)
    for seed in range(1000):
        rolled = augment(ramp, 5, some(seed))
        shift = int(np.argmin(rolled[:5]))
        np.testing.assert_array_equal(rolled[:5], np.roll(ramp[:5], shift))
        shifts[shift] += 1
    assert shifts.min() > 150
    assert shifts.max() < 250


def test_gain_beta_draws_beta_plus_its_offset():
    augment = Augmenter([augmentation("gain-beta")], RATE)
    gains = np.array([augment(np.ones(4, np.float32), 4, some(seed))[0] for seed in range(2000)])
    # Beta(10, 10) has mean 0.5 and variance 1/84.
    assert gains.mean() == pytest.approx(1.0, abs=0.01)
    assert gains.var() == pytest.approx(1 / 84, rel=0.15)
    shifted = Augmenter([augmentation("gain-beta", a=2.0, b=6.0, offset=0.0)], RATE)
    other = np.array([shifted(np.ones(4, np.float32), 4, some(seed))[0] for seed in range(2000)])
    assert other.mean() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("name", ["roll", "gain-beta", "polarity-inversion"])
@pytest.mark.parametrize(("p", "low", "high"), [(0.0, 0, 0), (0.25, 25, 80), (1.0, 190, 200)])
def test_p_is_the_share_of_crops_that_are_changed(name, p, low, high):
    augment = Augmenter([augmentation(name, p=p)], RATE)
    waveform = noise(1000)
    changed = sum(not np.array_equal(augment(waveform, 1000, some(seed)), waveform) for seed in range(200))
    assert low <= changed <= high


def test_they_run_in_order():
    loud = augmentation("gain", p=1.0, min_gain_db=20.0, max_gain_db=20.0)
    clip = augmentation("clip", p=1.0, a_min=-0.5, a_max=0.5)
    assert np.abs(Augmenter([loud, clip], RATE)(noise(), 4000, some())).max() == 0.5
    assert np.abs(Augmenter([clip, loud], RATE)(noise(), 4000, some())).max() > 1.0


def test_a_worker_gets_the_same_augmenter(chain):
    copy = pickle.loads(pickle.dumps(chain))
    np.testing.assert_array_equal(copy(noise(), 4000, some()), chain(noise(), 4000, some()))


def test_options_that_cannot_be_are_all_told():
    with pytest.raises(RecipeError) as caught:
        Augmenter(
            [
                augmentation("time-stretch", min_rate=2.0, max_rate=1.0),
                augmentation("add-background-noise", sounds_path="/nowhere"),
                augmentation("gain"),
            ],
            RATE,
        )
    stretch, background = caught.value.problems
    assert stretch == "data.augment.time-stretch: min_rate must not be greater than max_rate"
    assert background.startswith("data.augment.add-background-noise: ")


def test_without_the_library_our_own_work_and_the_others_say_what_to_install(monkeypatch):
    monkeypatch.setattr(audiomentations, "library", lambda: None)
    monkeypatch.setattr(audiomentations, "_plugin_of", audiomentations._plugin_of.__wrapped__)
    Augmenter([augmentation("roll"), augmentation("gain-beta")], RATE)
    with pytest.raises(RecipeError, match=r"pip install 'ssl-wb\[augment\]'"):
        Augmenter([augmentation("gain")], RATE)


def test_names_in_kebab_case():
    names = audiomentations.library()
    assert {"add-gaussian-snr", "mp3-compression", "seven-band-parametric-eq", "high-pass-filter"} <= set(names)
    assert "lambda" not in names
    assert "compose" not in names


def test_every_class_of_the_library_has_options():
    for name in audiomentations.library():
        fields = audiomentations.options_model(name).model_fields
        assert "p" in fields
        assert not {"noise_transform", "part_transform", "kwargs"} & set(fields)
