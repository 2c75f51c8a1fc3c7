"""One step under torch's profiler: a trace, and the share of the operations that hardware is built for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from ssl_wb.bench.timed_trainer import TimedTrainer
from ssl_wb.layers.parts import recorded_parts

__all__ = ["KINDS", "kind_of", "profile_step"]

#: Operations by kind, as the profiler names them, forward and backward.
KINDS = {
    "attention": re.compile(r"(aten|xformers\w*)::_?\w*(attention|flash_fwd|flash_bwd)"),
    "convolution": re.compile(r"aten::\w*convolution"),
    "matrix products": re.compile(r"aten::(mm|addmm|bmm|baddbmm|_addmm_activation|mkldnn_linear)$|mkldnn::_linear"),
}
_SHOWN = 20


def kind_of(operation: str) -> str:
    """Return the kind of an operation, ``other`` where it has none."""
    return next((kind for kind, pattern in KINDS.items() if pattern.match(operation)), "other")


def profile_step(trainer: TimedTrainer, trace: Path) -> dict[str, Any]:
    """Profile one step and write its trace.

    Args:
        trainer: warmed up.
        trace: ``.json`` or ``.json.gz``; Perfetto and chrome://tracing open it.

    Returns:
        Seconds of the step under the profiler, whose own cost counts as other; seconds and share of each kind; the
        most expensive operations. Time is that of an operation itself, without those it calls: of the CPU's thread,
        or on a GPU of its kernels.
    """
    cuda = trainer.device.type == "cuda"
    trainer.step()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with recorded_parts(), profile(activities=activities) as profiler:
        seconds = trainer.step()
    profiler.export_chrome_trace(str(trace))
    spent: dict[str, tuple[float, int]] = {}
    for event in profiler.key_averages():
        if event.device_type == DeviceType.CPU and "::" in event.key:  # an operation, not a kernel or a part
            own = event.self_device_time_total if cuda else event.self_cpu_time_total
            spent[event.key] = (own * 1e-6, event.count)
    kinds = dict.fromkeys((*KINDS, "other"), 0.0)
    for operation, (own, _) in spent.items():
        kinds[kind_of(operation)] += own
    # The rest: Python between operations, and on a GPU its idle time.
    kinds["other"] = seconds - sum(value for kind, value in kinds.items() if kind != "other")
    ranked = sorted(spent.items(), key=lambda item: -item[1][0])[:_SHOWN]
    return {
        "trace": str(trace),
        "step_seconds": seconds,
        "kinds": {kind: {"seconds": value, "share": value / seconds} for kind, value in kinds.items()},
        "share_in_hardware_operations": 1.0 - kinds["other"] / seconds,
        "operations": [
            {"name": name, "kind": kind_of(name), "seconds": own, "calls": calls} for name, (own, calls) in ranked
        ],
    }
