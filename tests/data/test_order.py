from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_wb.data.order import clips_for, permutation, random_below, random_for

seeds = st.integers(0, 2**40)


@given(count=st.integers(1, 500), seed=seeds, epoch=st.integers(0, 10**6))
def test_an_epoch_is_a_permutation(count, seed, epoch):
    assert sorted(permutation(count, seed, epoch).tolist()) == list(range(count))


def test_epochs_and_seeds_differ():
    first = permutation(1000, 0, 0).tolist()
    assert first != permutation(1000, 0, 1).tolist()
    assert first != permutation(1000, 1, 0).tolist()
    assert first != list(range(1000))


def test_the_order_never_changes():
    # A run resumed with a newer numpy must see the same clips: these values may not move.
    assert permutation(10, 0, 0).tolist() == ORDER_0_0
    assert permutation(10, 7, 3).tolist() == ORDER_7_3
    assert [random_below(random_for(5, 2, clip), 1000) for clip in range(5)] == DRAWS_5_2


ORDER_0_0 = [1, 4, 5, 6, 8, 2, 0, 3, 9, 7]
ORDER_7_3 = [0, 4, 5, 2, 9, 1, 8, 7, 3, 6]
DRAWS_5_2 = [99, 980, 114, 312, 900]


@given(count=st.integers(1, 40), seed=seeds, first=st.integers(0, 1000), length=st.integers(0, 100))
def test_positions_run_through_the_epochs(count, seed, first, length):
    got = clips_for(range(first, first + length), count, seed)
    assert [epoch for epoch, _ in got] == [position // count for position in range(first, first + length)]
    assert [clip for _, clip in got] == [
        permutation(count, seed, position // count)[position % count] for position in range(first, first + length)
    ]


@given(count=st.integers(1, 40), seed=seeds, first=st.integers(0, 500), cut=st.integers(0, 60))
def test_resuming_at_a_position_goes_on_where_it_stopped(count, seed, first, cut):
    whole = clips_for(range(first, first + 60), count, seed)
    assert whole == clips_for(range(first, first + cut), count, seed) + clips_for(
        range(first + cut, first + 60), count, seed
    )


def test_a_permutation_cannot_be_altered_by_its_reader():
    with pytest.raises(ValueError, match="read-only"):
        permutation(5, 0, 0)[0] = 3


def test_streams_of_order_and_of_clips_are_apart():
    order = np.random.Philox(np.random.SeedSequence([3, 4], spawn_key=(0,))).random_raw(4)
    assert not np.array_equal(order, random_for(3, 4, 0).bit_generator.random_raw(4))
    keys = itertools.product((0, 1), repeat=3)
    draws = {int(random_for(*key).bit_generator.random_raw()) for key in keys}
    assert len(draws) == 8


@given(choices=st.integers(1, 10**12), clip=st.integers(0, 10**6))
def test_random_below_stays_below(choices, clip):
    assert 0 <= random_below(random_for(0, 0, clip), choices) < choices


def test_random_below_is_uniform():
    generator = random_for(0, 0, 0)
    counts = np.bincount([random_below(generator, 10) for _ in range(10000)], minlength=10)
    assert counts.min() > 850
    assert counts.max() < 1150
