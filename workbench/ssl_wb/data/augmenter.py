"""Runs a recipe's augmentations on one crop at a time.

The libraries' transforms draw from the global generators of ``random`` and ``numpy.random``, and so do the bundled
ones: numpy keeps the streams of that generator the same in all versions. Both are seeded from the caller's generator
before each crop and put back after it, so that the result depends on that generator alone, whichever process makes it
and whatever was drawn before.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.errors import RecipeError
from ssl_wb.plugin.augmentation import Augmentation
from ssl_wb.plugin.registry import load_registry
from ssl_wb.recipe.plugin_selection import PluginSelection

__all__ = ["Augmenter"]


class Augmenter:
    """Applies augmentations in order to the part of a crop that is audio; the crop keeps its length.

    Args:
        selections: the recipe's augmentations, in order.
        sample_rate: samples per second of the crops.

    Raises:
        RecipeError: options that do not fit, or a package that is missing; one message for each.
    """

    def __init__(self, selections: Sequence[PluginSelection[Augmentation]], sample_rate: int) -> None:
        self.selections = tuple(selections)
        self.sample_rate = sample_rate
        self._steps: list[Augmentation] = []
        problems: list[str] = []
        # Building may draw numbers: a transform is tried on noise.
        with _global_randomness(np.random.default_rng(0)):
            for selection in self.selections:
                try:
                    self._steps.append(selection.build(sample_rate))
                except Exception as error:  # of a library's constructor: whatever it may be
                    reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
                    problems.append(f"data.augment.{selection.name}: {reason}")
        if problems:
            raise RecipeError(problems)

    def __reduce__(self) -> tuple[Any, ...]:
        # Transforms may hold what cannot be sent to a data loader worker, and a library's classes are made at run time.
        return _rebuilt, ([(one.name, one.options.model_dump()) for one in self.selections], self.sample_rate)

    def __call__(
        self, waveform: NDArray[np.float32], length: int, generator: np.random.Generator
    ) -> NDArray[np.float32]:
        """Augment one crop.

        Args:
            waveform: float32 ``[S]``, not changed.
            length: samples that are audio; the rest is left out and comes back as zeros.
            generator: the only source of randomness.

        Returns:
            float32 ``[S]``. What an augmentation makes longer than ``length`` is cut, what it makes shorter is
            followed by zeros.

        Raises:
            DataError: a library's transform failed.
        """
        samples = waveform[:length].copy()  # [L]; other views of the clip begin from the same crop
        with _global_randomness(generator):
            for step in self._steps:
                samples = step(samples)
        augmented = np.zeros_like(waveform)  # [S]
        kept = min(length, len(samples))
        augmented[:kept] = samples[:kept]
        return augmented


def _rebuilt(written: Sequence[tuple[str, dict[str, Any]]], sample_rate: int) -> Augmenter:
    """Make an augmenter from names and options, in another process."""
    registry = load_registry()
    selections = []
    for name, options in written:
        plugin: Any = registry.get("augmentation", name)
        selections.append(PluginSelection("augmentation", name, plugin, plugin.Options(**options), None))
    return Augmenter(selections, sample_rate)


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
