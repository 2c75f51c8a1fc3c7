"""The order of clips and the randomness of each: pure functions of (seed, epoch, position).

Training takes clips from an endless sequence: position ``p`` is place ``p % count`` of epoch ``p // count``. So the
data state of a run is one integer, the clips seen so far, and nothing here depends on the number of processes or
workers.

Everything is built from :class:`numpy.random.SeedSequence` and the raw output of :class:`numpy.random.Philox`. NumPy
promises that both stay the same on all platforms and in all versions; it makes no such promise for
``Generator.permutation`` or ``Generator.integers``. Philox is a counter-based generator: a stream per clip costs no
more than its seed, where a Mersenne Twister would fill 624 words of state each time.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["caption_random", "clips_for", "permutation", "random_below", "random_for", "view_random"]

# First spawn key of each use. SeedSequence takes an entropy of [1, 2] and of [1, 2, 0] for the same; a spawn key keeps
# the streams apart.
_ORDER, _CROP, _VIEW, _CAPTION = range(4)


@lru_cache(maxsize=2)  # a batch may span the end of one epoch and the beginning of the next
def permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of ``count`` clips in one epoch.

    Args:
        count: clips in the set.
        seed: seed of the run.
        epoch: which pass over the data, from 0.

    Returns:
        int64 ``[count]``, a permutation of ``0..count-1``, read-only because it is cached.
    """
    # Sorting random 64-bit keys permutes uniformly, up to equal keys (about count^2 / 2^65). "stable" says what becomes
    # of those, so that the order is the same for every sorting algorithm.
    keys = np.random.Philox(np.random.SeedSequence([seed, epoch], spawn_key=(_ORDER,))).random_raw(count)
    order = np.argsort(keys, kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


def clips_for(positions: range, count: int, seed: int) -> list[tuple[int, int]]:
    """Return the clips at some positions of the endless sequence.

    Args:
        positions: in the sequence, from 0.
        count: clips in the set.
        seed: seed of the run.

    Returns:
        ``(epoch, clip index)`` per position.
    """
    return [
        (position // count, int(permutation(count, seed, position // count)[position % count]))
        for position in positions
    ]


def random_for(seed: int, epoch: int, clip: int) -> np.random.Generator:
    """Return the generator of one clip in one epoch: it draws where the crop begins."""
    return _generator(seed, epoch, _CROP, clip)


def view_random(seed: int, epoch: int, clip: int, view: int) -> np.random.Generator:
    """Return the generator of one view of a clip in one epoch: it augments the view."""
    return _generator(seed, epoch, _VIEW, clip, view)


def caption_random(seed: int, epoch: int, clip: int) -> np.random.Generator:
    """Return the generator that draws one of a clip's captions in one epoch."""
    return _generator(seed, epoch, _CAPTION, clip)


def _generator(seed: int, epoch: int, *spawn_key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch], spawn_key=spawn_key)))


def random_below(generator: np.random.Generator, choices: int) -> int:
    """Draw a whole number in ``0..choices-1`` from one raw draw, the same in all versions of NumPy.

    The product's upper 64 bits (Lemire, arXiv 1805.10941, without the rejection step: the bias is below
    ``choices / 2^64``).
    """
    return int(generator.bit_generator.random_raw()) * choices >> 64
