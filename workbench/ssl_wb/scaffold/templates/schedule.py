"""A learning-rate schedule: what follows the warm-up."""

from __future__ import annotations

from ssl_wb.api import Field, PluginOptions, Schedule, hookimpl


class NewPluginOptions(PluginOptions):
    """Options: every one has bounds and a description."""

    power: float = Field(2.0, gt=0.0, description="Exponent of the fall; 1 is a line.")


class NewPlugin(Schedule):
    """Falls as a power of what is left of the run: (1 - progress) ** power."""

    name = "new-plugin"
    reference = ""
    Options = NewPluginOptions
    options: NewPluginOptions

    def share(self, progress: float) -> float:
        """Return 1 at the peak rate, 0 at the last one."""
        return float((1.0 - progress) ** self.options.power)


@hookimpl
def ssl_wb_schedules() -> list[type[Schedule]]:
    """Offer this schedule."""
    return [NewPlugin]
