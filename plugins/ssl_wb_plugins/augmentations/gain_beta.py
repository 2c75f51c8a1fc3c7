"""Gain drawn from a beta distribution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssl_wb.api import Augmentation, Field, PluginOptions, hookimpl


class GainBeta(Augmentation):
    """Multiplies by ``Beta(a, b) + offset`` (AudioMosaic: 10, 10, 0.5)."""

    name = "gain-beta"
    reference = "AudioMosaic, arXiv 2605.14231"

    class Options(PluginOptions):
        """Options."""

        p: float = Field(1.0, ge=0.0, le=1.0, description="Probability.")
        a: float = Field(10.0, gt=0.0, description="First shape parameter of the beta distribution.")
        b: float = Field(10.0, gt=0.0, description="Second shape parameter of the beta distribution.")
        offset: float = Field(0.5, ge=0.0, description="Added to the draw.")

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Augment ``[L]``."""
        options = self.options
        if np.random.random_sample() >= options.p:
            return samples
        return samples * np.float32(np.random.beta(options.a, options.b) + options.offset)


@hookimpl
def ssl_wb_augmentations() -> list[type[Augmentation]]:
    """Offer this augmentation."""
    return [GainBeta]
