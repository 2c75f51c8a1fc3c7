"""No change after the warm-up."""

from __future__ import annotations

from ssl_wb.api import Schedule, hookimpl


class Constant(Schedule):
    """Keeps the peak rate to the end; optimizer.min_lr is never reached."""

    name = "constant"
    reference = ""

    def share(self, progress: float) -> float:
        """Return 1 at the peak rate, 0 at the last one."""
        return 1.0


@hookimpl
def ssl_wb_schedules() -> list[type[Schedule]]:
    """Register the schedule."""
    return [Constant]
