"""Tests of the schedule."""

from __future__ import annotations

from ssl_wb.scaffold.templates.schedule import NewPlugin, NewPluginOptions
from ssl_wb.testing import check_schedule


def test_it_keeps_the_contract() -> None:
    """Shares, the peak, resumption: everything that the workbench asks of a schedule."""
    check_schedule(NewPlugin)


def test_it_falls_all_the_way() -> None:
    """It starts at the peak and ends at the last rate; replace this by what your idea promises."""
    schedule = NewPlugin(NewPluginOptions(power=2.0))
    assert [schedule.share(progress) for progress in (0.0, 0.5, 1.0)] == [1.0, 0.25, 0.0]
