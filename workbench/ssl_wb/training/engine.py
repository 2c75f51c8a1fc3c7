"""Accelerate's engine, built as a recipe asks for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from ssl_wb.errors import UsageError
from ssl_wb.runs.sharding import sharding

__all__ = ["build_accelerator"]


def build_accelerator(
    precision: str,
    device: torch.device,
    *,
    strategy: Literal["ddp", "fsdp"] = "ddp",
    trackers: Sequence[str] = (),
    folder: Path | None = None,
) -> Accelerator:
    """Build the engine of a run.

    Args:
        precision: Accelerate's word for the number format: ``no``, ``bf16`` or ``fp16``.
        device: what to train on.
        strategy: ``train.strategy``.
        trackers: names of trackers that get the figures.
        folder: where trackers write.

    Raises:
        UsageError: the device cannot compute so, a tracker is not installed, or FSDP cannot shard here.
    """
    plugin = sharding(strategy, device)
    if "WORLD_SIZE" not in os.environ:
        # Accelerate keeps device and precision of a process' first engine and refuses another. It has no public way to
        # forget them, and a process may train twice; one of several processes of a run never does.
        AcceleratorState._reset_state(reset_partial_state=True)
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            cpu=device.type == "cpu",
            fsdp_plugin=plugin,
            log_with=list(trackers) or None,
            project_dir=str(folder) if trackers else None,
        )
    except (ValueError, ImportError) as error:
        raise UsageError(
            f"training cannot start: {error}",
            hint="precision 'auto' takes what the device has; trackers need pip install 'ssl-wb[tensorboard]'",
        ) from error
    # Accelerate leaves out trackers that are not installed, with a warning.
    missing = [name for name in trackers if name not in {tracker.value for tracker in accelerator.log_with}]
    if missing:
        raise UsageError(
            f"train.trackers: {', '.join(missing)} is not installed", hint="pip install 'ssl-wb[tensorboard]'"
        )
    return accelerator
