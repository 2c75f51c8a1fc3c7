"""Waveform augmentation: a recipe's ``[[data.augment]]`` list, applied to one crop at a time.

The library's transforms (audiomentations) draw from the global generators of ``random`` and ``numpy.random``, and so do
ours: numpy keeps the streams of that one the same in all versions. Both are seeded from the caller's generator before
each crop and put back after it, so that what comes out depends on that generator alone, whichever process makes it and
whatever was drawn before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.errors import DataError, RecipeError
from ssl_wb.recipe.augmentations import OWN, GainBetaOptions, RollOptions, library
from ssl_wb.recipe.schema import AugmentSection

__all__ = ["Augmenter"]

#: Augments float32 ``[L]``; the length may change.
Step = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class _Roll:
    """Circular shift by a uniform number of samples."""

    def __init__(self, options: RollOptions) -> None:
        self.options = options

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        if np.random.random_sample() >= self.options.p:
            return samples
        return np.roll(samples, np.random.randint(len(samples)))


class _GainBeta:
    """Gain of Beta(a, b) + offset."""

    def __init__(self, options: GainBetaOptions) -> None:
        self.options = options

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        options = self.options
        if np.random.random_sample() >= options.p:
            return samples
        return samples * np.float32(np.random.beta(options.a, options.b) + options.offset)


class _FromLibrary:
    """A transform of audiomentations."""

    def __init__(self, name: str, transform: Any, sample_rate: int) -> None:
        self.name = name
        self.transform = transform
        self.sample_rate = sample_rate

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            augmented: NDArray[np.float32] = self.transform(samples, self.sample_rate)
            fault = None if np.isfinite(augmented).all() else "it made numbers that are not finite"
        except Exception as error:  # of a library: whatever it may be
            fault = f"{type(error).__name__}: {error}"
        if fault:
            raise DataError(
                f"augmentation {self.name!r} failed on a crop of {len(samples)} samples: {fault}",
                hint="Take it out of data.augment, or change its options.",
            )
        return augmented

    def rehearse(self) -> None:
        """Apply it once to a second of noise, so that what it lacks (another package, a sound) is said at once."""
        usual, self.transform.p = self.transform.p, 1.0
        noise = np.random.standard_normal(self.sample_rate).astype(np.float32)
        try:
            self.transform(0.1 * noise, self.sample_rate)
        finally:
            self.transform.p = usual


class Augmenter:
    """Applies augmentations in order to the part of a crop that counts; the crop keeps its length.

    Args:
        entries: the recipe's list.
        sample_rate: samples per second of the crops.

    Raises:
        RecipeError: an unknown name, options that cannot be, or a package that is missing; all are told.
    """

    def __init__(self, entries: Sequence[AugmentSection], sample_rate: int) -> None:
        self.entries = tuple(entries)
        self.sample_rate = sample_rate
        self._steps: list[Step] = []
        problems: list[str] = []
        with _global_randomness(np.random.default_rng(0)):
            for entry in self.entries:
                try:
                    self._steps.append(_built(entry, sample_rate))
                except Exception as error:  # of a library's constructor: whatever it may be
                    said = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
                    problems.append(f"data.augment.{entry.name}: {said}")
        if problems:
            raise RecipeError(problems)

    def __reduce__(self) -> tuple[type[Augmenter], tuple[tuple[AugmentSection, ...], int]]:
        return type(self), (self.entries, self.sample_rate)  # transforms may hold what cannot be sent to a worker

    def __call__(
        self, waveform: NDArray[np.float32], length: int, generator: np.random.Generator
    ) -> NDArray[np.float32]:
        """Augment one crop.

        Args:
            waveform: float32 ``[S]``, not changed.
            length: samples that count; the rest is left out and comes back as zeros.
            generator: the only source of randomness.

        Returns:
            float32 ``[S]``. What an augmentation makes longer than ``length`` is cut, what it makes shorter is
            followed by zeros.

        Raises:
            DataError: a library's transform failed.
        """
        heard = waveform[:length].copy()  # other views of the clip begin from the same crop
        with _global_randomness(generator):
            for step in self._steps:
                heard = step(heard)
        augmented = np.zeros_like(waveform)
        kept = min(length, len(heard))
        augmented[:kept] = heard[:kept]
        return augmented


@contextmanager
def _global_randomness(generator: np.random.Generator) -> Iterator[None]:
    """Seed the global generators of ``random`` and numpy, and put them back as they were."""
    before, numpy_before = random.getstate(), np.random.get_state()
    seeds = generator.bit_generator.random_raw(3)  # uint64 [3]
    try:
        random.seed(int(seeds[0]))
        np.random.seed(seeds[1:].view(np.uint32))
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)


def _built(entry: AugmentSection, sample_rate: int) -> Step:
    """Build one augmentation."""
    given = {} if entry.p is None else {"p": entry.p}
    if entry.name == "roll":
        return _Roll(RollOptions(**entry.options, **given))
    if entry.name == "gain-beta":
        return _GainBeta(GainBetaOptions(**entry.options, **given))
    known = library()
    if known is None:
        raise ValueError("needs audiomentations, which is not installed: pip install 'ssl-wb[augment]'")
    if entry.name not in known:
        raise ValueError(f"no such augmentation; there are {', '.join([*OWN, *known])}")
    step = _FromLibrary(entry.name, known[entry.name](**entry.options, **given), sample_rate)
    step.rehearse()
    return step
