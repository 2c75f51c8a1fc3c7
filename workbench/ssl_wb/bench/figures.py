"""Figures from repeated measurements: spread, ratio, exponent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["exponent", "ratio", "spread"]

#: Draws of the bootstrap.
DRAWS = 2000


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, 10 % and 90 % quantile of some measurements."""
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return {"median": float(middle), "p10": float(low), "p90": float(high)}


def _resampled(rounds: int) -> NDArray[np.int64]:
    """Draw rounds with replacement, int64 ``[DRAWS, rounds]``; the same ones every time."""
    return np.random.default_rng(0).integers(rounds, size=(DRAWS, rounds))


def _interval(values: NDArray[np.float64]) -> dict[str, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return {"low": float(low), "high": float(high)}


def ratio(values: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """Return the ratio of medians and its 95 % bootstrap interval.

    Args:
        values: one measurement per round.
        base: what they are compared with, of the same rounds: rounds are drawn whole, so what slowed both counts once.
    """
    over, under = np.asarray(values), np.asarray(base)
    rounds = _resampled(len(over))
    draws = np.median(over[rounds], axis=1) / np.median(under[rounds], axis=1)
    return {"median": float(np.median(over) / np.median(under)), **_interval(draws)}


def exponent(sizes: Sequence[float], seconds: Sequence[Sequence[float]]) -> dict[str, float]:
    """Fit ``seconds = factor * size ** exponent`` by least squares on logarithms.

    Args:
        sizes: at least two different ones.
        seconds: for each size, one measurement per round.

    Returns:
        The exponent of the median times, its 95 % bootstrap interval over rounds, and the factor.
    """
    times: Any = np.asarray(seconds, dtype=np.float64)  # [sizes, rounds]
    logs = np.log(np.asarray(sizes, dtype=np.float64))
    slope, offset = np.polyfit(logs, np.log(np.median(times, axis=1)), 1)
    rounds = _resampled(times.shape[1])
    drawn = np.median(times[:, rounds], axis=2)  # [sizes, DRAWS]
    slopes = np.polyfit(logs, np.log(drawn), 1)[0]
    return {"exponent": float(slope), **_interval(slopes), "factor_seconds": float(np.exp(offset))}
