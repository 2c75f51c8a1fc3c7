"""The checks of a learning-rate schedule."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ssl_wb.plugin.contract_checks import check_share, refuse
from ssl_wb.plugin.schedule import Schedule
from ssl_wb.testing.checks import Checks, Subject
from ssl_wb.testing.options_checks import common_checks

__all__ = ["CHECKS", "check_schedule"]

#: Shares of the run that are tried.
PROGRESS = [step / 100 for step in range(101)]

CHECKS: Checks[_Schedule] = Checks("schedule", common_checks())


class _Schedule(Subject[Schedule]):
    """A schedule under test."""


def check_schedule(
    plugin: type[Schedule], options: Mapping[str, Any] | None = None, *, skip: Collection[str] = ()
) -> None:
    """Hold a learning-rate schedule to its contract.

    Args:
        plugin: the class.
        options: options that differ from their defaults.
        skip: names of checks to leave out.

    Raises:
        ContractError: the first check that fails.
    """
    CHECKS.run(_Schedule(plugin, options or {}), skip)


@CHECKS
def shares(subject: _Schedule) -> None:
    """``share`` returns a number from 0 to 1 for any progress from 0 to 1."""
    schedule = subject.build()
    for progress in PROGRESS:
        check_share(schedule, progress)


@CHECKS
def peak(subject: _Schedule) -> None:
    """It reaches the peak rate, 1, somewhere: ``optimizer.lr`` is what the user asked for."""
    schedule = subject.build()
    highest = max(check_share(schedule, progress) for progress in PROGRESS)
    if highest < 0.99:
        refuse(schedule, "reach the peak rate, a share of 1", f"{highest:.3g} at most")


@CHECKS
def of_progress_alone(subject: _Schedule) -> None:
    """The share depends on the progress alone: asked in another order, or anew after a resumption, it is the same."""
    schedule = subject.build()
    first = [schedule.share(progress) for progress in PROGRESS]
    again = [schedule.share(progress) for progress in reversed(PROGRESS)][::-1]
    resumed = [subject.build().share(progress) for progress in PROGRESS]
    if not first == again == resumed:
        refuse(schedule, "depend on the progress alone, and keep nothing", "other shares the second time")
