"""The parts that all benchmark reports share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from ssl_wb.bench.figures import exponent
from ssl_wb.bench.timed_trainer import PROGRESS
from ssl_wb.plugin.registry import load_registry
from ssl_wb.runs.environment import describe_environment

__all__ = ["environment_of", "head_of", "scaling_of"]


def head_of(measured: list[dict[str, Any]], *, repeats: int, warmup: int) -> dict[str, Any]:
    """Return date and number of repetitions, and what was measured of each entry."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "repeats": repeats,
        "warmup_steps": warmup,
        "progress": PROGRESS,
        "contestants": measured,
    }


def scaling_of(over: str, unit: str, sizes: Sequence[float], seconds: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Fit how step time grows.

    Args:
        over: what grows.
        unit: of the axis it is drawn on.
        sizes: of the entries.
        seconds: of each entry's steps.
    """
    return {"over": over, "unit": unit, "sizes": list(sizes), **exponent(sizes, seconds)}


def environment_of(device: torch.device, precision: str, seed: int, processes: int = 1) -> dict[str, Any]:
    """Return the environment record of a measurement."""
    return describe_environment(
        device=device, processes=processes, precision=precision, seed=seed, registry=load_registry()
    )
