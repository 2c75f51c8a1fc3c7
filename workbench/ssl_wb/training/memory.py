"""How much memory is free."""

from __future__ import annotations

import re
from pathlib import Path

import torch

__all__ = ["free_bytes", "proc_bytes"]

#: Where a container finds its limit and its use of memory, in bytes (cgroup v2).
_GROUP = Path("/sys/fs/cgroup")
_KIBIBYTE = 1024


def proc_bytes(file: Path, key: str) -> int | None:
    """Return a value of a file of /proc in bytes; None where there is no such file or value."""
    try:
        match = re.search(rf"^{key}:\s+(\d+) kB", file.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(match.group(1)) * _KIBIBYTE if match else None


def free_bytes(device: torch.device) -> int | None:
    """Return the free bytes of a device or, for the CPU, of this container; None where that cannot be told."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = proc_bytes(Path("/proc/meminfo"), "MemAvailable")
    try:
        limit, taken = (int((_GROUP / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
        # The cache of files counts as used, and the system drops it when a program needs memory.
        spare = re.search(r"^inactive_file (\d+)$", (_GROUP / "memory.stat").read_text(encoding="ascii"), re.MULTILINE)
        left = limit - taken + (int(spare.group(1)) if spare else 0)
    except (OSError, ValueError):  # no container, or one without a limit
        return free
    return left if free is None else min(free, max(0, left))
