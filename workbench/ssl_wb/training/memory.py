"""Memory: what a step took at its peak, and what is free."""

from __future__ import annotations

import re
from pathlib import Path

import torch

__all__ = ["PeakMemory", "free_bytes"]

_STATUS = Path("/proc/self/status")
#: Where a container is told what it may have, and has, in bytes (cgroup v2).
_GROUP = Path("/sys/fs/cgroup")
_KIBIBYTE = 1024


def _proc_bytes(file: Path, key: str) -> int | None:
    """Return a figure of a file of /proc in bytes; None where there is no such file or figure."""
    try:
        match = re.search(rf"^{key}:\s+(\d+) kB", file.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(match.group(1)) * _KIBIBYTE if match else None


def free_bytes(device: torch.device) -> int | None:
    """Return the bytes of a device, or of this container, that can still be had; None where that cannot be told."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = _proc_bytes(Path("/proc/meminfo"), "MemAvailable")
    try:
        limit, taken = (int((_GROUP / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
        # Files read lately are in what is taken, and go when room is wanted.
        spare = re.search(r"^inactive_file (\d+)$", (_GROUP / "memory.stat").read_text(encoding="ascii"), re.MULTILINE)
        left = limit - taken + (int(spare.group(1)) if spare else 0)
    except (OSError, ValueError):  # no container, or one without a limit
        return free
    return left if free is None else min(free, max(0, left))


class PeakMemory:
    """Peak memory since it was made.

    On CUDA what tensors took at most, less what was taken before. On Linux' CPU the high-water mark of the process less
    its size before; that is too low where memory freed earlier is used again. Elsewhere unknown.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            self.how = "torch.cuda.max_memory_allocated less what was allocated before"
            torch.cuda.reset_peak_memory_stats(device)
            self._before: int | None = torch.cuda.memory_allocated(device)
            return
        self.how = "high-water mark of the process less its size before"
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the mark starts anew
        except OSError:
            self._before = None  # not Linux, or a container that does not allow it: the mark could be an old one
        else:
            self._before = _proc_bytes(_STATUS, "VmRSS")

    def read(self) -> int | None:
        """Return the peak in bytes, or None."""
        if self._before is None:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self._before
        peak = _proc_bytes(_STATUS, "VmHWM")
        return None if peak is None else max(0, peak - self._before)
