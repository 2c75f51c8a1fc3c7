"""The environment record of a run: machine, packages, plugins, commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import ssl_wb
from ssl_wb.layers.attention import AttentionChoice, attention_name
from ssl_wb.plugin.registry import Registry
from ssl_wb.runs.device import autocast_dtype

__all__ = ["describe_environment"]


def _git(folder: Path) -> dict[str, Any] | None:
    """Return commit and cleanliness of the checkout that holds ``folder``, None outside of one."""

    def ask(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


# More than fifty lines, most of them the record and the arguments' description.
def describe_environment(
    *,
    device: torch.device,
    processes: int,
    precision: str,
    seed: int,
    registry: Registry,
    strategy: str = "ddp",
    attention: AttentionChoice = "auto",
) -> dict[str, Any]:
    """Return the environment record of a run as plain values.

    Args:
        device: what the model trains on.
        processes: processes of the run.
        precision: number format of the forward pass, resolved.
        seed: the recipe's seed.
        registry: the plugins at hand.
        attention: what the recipe asks for.
        strategy: what several processes share, ``train.strategy``.
    """
    packages = {dist.metadata["Name"]: dist.version for dist in metadata.distributions() if dist.metadata["Name"]}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "ssl_wb": ssl_wb.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "command": sys.argv,
        "device": {
            "type": device.type,
            "name": name,
            "cpu_cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "processes": processes,
        "strategy": strategy,
        "precision": precision,
        "attention": attention_name(device, autocast_dtype(precision), attention),
        "seed": seed,
        "git": _git(Path(ssl_wb.__file__).parent),
        "plugins": [
            {
                "kind": record.kind,
                "name": record.name,
                "distribution": record.distribution,
                "version": record.version,
                "status": record.status,
            }
            for record in registry.records
        ],
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }
