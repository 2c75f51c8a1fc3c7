"""Peak memory of a training step."""

from __future__ import annotations

from pathlib import Path

import torch

from ssl_wb.training.memory import proc_bytes

__all__ = ["PeakMemory"]

_STATUS = Path("/proc/self/status")


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
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the mark
        except OSError:
            self._before = None  # not Linux, or a container that does not allow it: the mark could be an old one
        else:
            self._before = proc_bytes(_STATUS, "VmRSS")

    def read(self) -> int | None:
        """Return the peak in bytes, or None."""
        if self._before is None:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self._before
        peak = proc_bytes(_STATUS, "VmHWM")
        return None if peak is None else max(0, peak - self._before)
