"""Schedules against their definitions."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ssl_wb.api import warmup_cosine


def test_a_line_up_then_half_a_cosine_down():
    values = [warmup_cosine(step, 110, 10, peak=2.0, last=0.5) for step in range(111)]
    assert values[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert values[10] == pytest.approx(2.0)
    assert values[60] == pytest.approx(1.25)
    # At a quarter of the half turn the cosine is the root of a half.
    assert values[35] == pytest.approx(1.25 + 0.75 * 0.5**0.5)
    assert values[110] == pytest.approx(0.5)
    assert warmup_cosine(500, 110, 10, peak=2.0, last=0.5) == pytest.approx(0.5)
    assert all(one > two for one, two in pairwise(values[10:]))


def test_without_warmup_it_starts_at_the_peak():
    assert warmup_cosine(0, 10, 0, peak=1.0, last=0.0) == 1.0
    assert warmup_cosine(0, 0, 0, peak=1.0, last=0.0) == 1.0
