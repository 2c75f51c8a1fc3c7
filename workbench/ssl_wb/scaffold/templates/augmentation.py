"""An augmentation: one change of the waveform."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssl_wb.api import Augmentation, Field, PluginOptions, hookimpl


class NewPluginOptions(PluginOptions):
    """Options: every one has bounds and a description."""

    p: float = Field(1.0, ge=0.0, le=1.0, description="Probability.")
    decibels: float = Field(6.0, ge=0.0, le=60.0, description="Largest change of level, up or down.")


class NewPlugin(Augmentation):
    """Changes the level by a uniform number of decibels."""

    name = "new-plugin"
    reference = ""
    Options = NewPluginOptions
    options: NewPluginOptions

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Augment ``[L]``."""
        # The global generators of random and numpy.random are seeded by clip, epoch and view.
        if np.random.random_sample() >= self.options.p:
            return samples
        change = np.random.uniform(-self.options.decibels, self.options.decibels)
        return (samples * 10 ** (change / 20)).astype(np.float32)


@hookimpl
def ssl_wb_augmentations() -> list[type[Augmentation]]:
    """Offer this augmentation."""
    return [NewPlugin]
