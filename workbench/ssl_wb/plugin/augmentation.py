"""The augmentation contract: one change of a waveform."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ssl_wb.plugin.base import Kind, Plugin, PluginOptions

__all__ = ["Augmentation"]


class Augmentation(Plugin, ABC):
    """Changes the waveform of one crop.

    The global generators of ``random`` and ``numpy.random`` are the only source of randomness: they are seeded by
    (seed, epoch, clip, view) before each crop and put back after it, because the libraries draw from them.

    Args:
        options: the plugin's options.
        sample_rate: samples per second of the crops.

    Raises:
        ValueError: the options do not fit, or a package is missing; the message reaches the user.
    """

    kind: ClassVar[Kind] = "augmentation"

    def __init__(self, options: PluginOptions, sample_rate: int) -> None:
        self.options = options
        self.sample_rate = sample_rate

    @abstractmethod
    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Augment float32 ``[L]``, which may be returned as it is but not changed in place; the length may change."""
