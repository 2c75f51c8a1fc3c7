"""A straight line."""

from __future__ import annotations

from ssl_wb.api import Schedule, hookimpl


class Linear(Schedule):
    """Falls from the peak to the last rate along a line: 1 - progress."""

    name = "linear"
    reference = ""

    def share(self, progress: float) -> float:
        """Return 1 at the peak rate, 0 at the last one."""
        return 1.0 - progress


@hookimpl
def ssl_wb_schedules() -> list[type[Schedule]]:
    """Register the schedule."""
    return [Linear]
