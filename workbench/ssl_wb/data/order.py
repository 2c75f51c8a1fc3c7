"""The order of clips: pure functions of (seed, epoch, position).

A run's data state is one integer, the clips seen so far: position ``p`` of the endless stream is place ``p %
count`` of epoch ``p // count``. Nothing here depends on the number of processes or workers.

Everything is built from :class:`numpy.random.SeedSequence` and the raw output of
:class:`numpy.random.Philox`, which numpy keeps the same on all platforms and in all versions; it makes no
such promise for ``Generator.permutation``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["caption_random", "clips_for", "permutation", "random_below", "random_for", "view_random"]

# Spawn keys that keep the streams apart: without them (seed, epoch) and (seed, epoch, 0) would be one stream.
_ORDER, _CLIP, _VIEW, _CAPTION = range(4)


@lru_cache(maxsize=2)
def permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of ``count`` clips in one epoch.

    Args:
        count: clips in the set.
        seed: seed of the run.
        epoch: which pass over the data, from 0.

    Returns:
        int64 ``[count]``, a permutation of ``0..count-1``, not writeable (the last two are kept).
    """
    keys = np.random.Philox(np.random.SeedSequence([seed, epoch], spawn_key=(_ORDER,))).random_raw(count)
    order = np.argsort(keys, kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


def clips_for(positions: range, count: int, seed: int) -> list[tuple[int, int]]:
    """Return the clips at some positions of the endless stream.

    Args:
        positions: places in the stream, from 0.
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
    """Return the randomness of one clip in one epoch: the place of its crop."""
    return _generator(seed, epoch, _CLIP, clip)


def view_random(seed: int, epoch: int, clip: int, view: int) -> np.random.Generator:
    """Return the randomness of one view of a clip in one epoch: its augmentation."""
    return _generator(seed, epoch, _VIEW, clip, view)


def caption_random(seed: int, epoch: int, clip: int) -> np.random.Generator:
    """Return the randomness by which one of a clip's captions is taken in one epoch."""
    return _generator(seed, epoch, _CAPTION, clip)


def _generator(seed: int, epoch: int, *spawn_key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch], spawn_key=spawn_key)))


def random_below(generator: np.random.Generator, choices: int) -> int:
    """Draw a whole number in ``0..choices-1`` from one raw draw, alike in all versions of numpy."""
    return int(generator.bit_generator.random_raw()) * choices >> 64
