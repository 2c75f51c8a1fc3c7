"""Circular shift of the crop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssl_wb.api import Augmentation, Field, PluginOptions, hookimpl


class Roll(Augmentation):
    """Shifts the crop circularly by a uniform number of samples."""

    name = "roll"
    reference = "AudioMosaic, arXiv 2605.14231"

    class Options(PluginOptions):
        """Options."""

        p: float = Field(1.0, ge=0.0, le=1.0, description="Probability.")

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Augment ``[L]``."""
        if np.random.random_sample() >= self.options.p:
            return samples
        return np.roll(samples, np.random.randint(len(samples)))


@hookimpl
def ssl_wb_augmentations() -> list[type[Augmentation]]:
    """Offer this augmentation."""
    return [Roll]
