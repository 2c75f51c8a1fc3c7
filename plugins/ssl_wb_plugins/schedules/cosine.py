"""Half a cosine, the default."""

from __future__ import annotations

import math

from ssl_wb.api import Schedule, hookimpl


class Cosine(Schedule):
    """Falls from the peak to the last rate along half a cosine: 0.5 * (1 + cos(pi * progress))."""

    name = "cosine"
    reference = "SGDR, arXiv 1608.03983, equation 5, without restarts"

    def share(self, progress: float) -> float:
        """Return 1 at the peak rate, 0 at the last one."""
        return 0.5 * (1.0 + math.cos(math.pi * progress))


@hookimpl
def ssl_wb_schedules() -> list[type[Schedule]]:
    """Register the schedule."""
    return [Cosine]
