"""Lines of progress where stderr is no terminal."""

from __future__ import annotations

import logging

from ssl_wb.training import reporting
from ssl_wb.training.reporting import PlainReporter

FIGURES = {"loss": 1.0, "clips_per_second": 2.0}


def test_a_slow_run_is_not_silent_between_logged_steps(caplog, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(reporting.time, "monotonic", lambda: now[0])
    reporter = PlainReporter()
    with caplog.at_level(logging.INFO, "ssl_wb"):
        reporter.start(0, 1000)
        for step in range(1, 9):
            now[0] += 6.0
            reporter.advance(step)
            if step == 4:
                reporter.measured(step, FIGURES)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "step 3/1000  1:39:42 left",
        "step 4/1000  loss 1.0000  2 clips/s  1:39:36 left",
        "step 7/1000  1:39:18 left",
    ]


def test_a_fast_run_has_the_lines_of_logged_steps_alone(caplog, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(reporting.time, "monotonic", lambda: now[0])
    reporter = PlainReporter()
    with caplog.at_level(logging.INFO, "ssl_wb"):
        reporter.start(0, 100)
        for step in range(1, 101):
            now[0] += 0.2
            reporter.advance(step)
            if step % 50 == 0:
                reporter.measured(step, FIGURES)
    assert [record.getMessage().split("  ")[0] for record in caplog.records] == ["step 50/100", "step 100/100"]
