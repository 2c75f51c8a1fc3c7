"""A plateau, and a decay at the end."""

from __future__ import annotations

import math
from typing import Literal

from ssl_wb.api import Field, PluginOptions, Schedule, hookimpl


class WarmUpStableDecayOptions(PluginOptions):
    """Options of the plateau with a decay."""

    decay: float = Field(0.2, gt=0.0, le=1.0, description="Share of the steps after the warm-up in which it falls.")
    shape: Literal["sqrt", "linear"] = Field(
        "sqrt", description="How it falls: 1 - sqrt(share of the decay), or along a line."
    )


class WarmUpStableDecay(Schedule):
    """Keeps the peak rate, then falls to the last one over the end of the run.

    The part before the decay does not depend on the length of the run, so that a longer run can start from its
    checkpoints (``[init] from``).
    """

    name = "warm-up-stable-decay"
    reference = "MiniCPM, arXiv 2404.06395; 1 - sqrt: Haegele et al., arXiv 2405.18392"
    Options = WarmUpStableDecayOptions
    options: WarmUpStableDecayOptions

    def share(self, progress: float) -> float:
        """Return 1 at the peak rate, 0 at the last one."""
        done = max(0.0, (progress - (1.0 - self.options.decay)) / self.options.decay)
        return 1.0 - (math.sqrt(done) if self.options.shape == "sqrt" else done)


@hookimpl
def ssl_wb_schedules() -> list[type[Schedule]]:
    """Register the schedule."""
    return [WarmUpStableDecay]
