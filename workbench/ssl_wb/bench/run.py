"""The measurement: contestants take turns, step by step, and every figure follows from their times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_wb.bench.clock import PARTS, REST
from ssl_wb.bench.entries import SCALES, Scale, check_memory
from ssl_wb.bench.figures import ratio, spread
from ssl_wb.bench.inputs import NOISE
from ssl_wb.bench.profile import profile_step
from ssl_wb.bench.report import environment_of, head_of, scaling_of
from ssl_wb.bench.timed_trainer import Contestant, Entry

__all__ = ["bench"]

Progress = Callable[[str, int, int], None]


def bench(
    entries: Sequence[Entry],
    *,
    device: torch.device,
    repeats: int = 10,
    warmup: int = 2,
    scale: Scale | None = None,
    trace: Path | None = None,
    progress: Progress = lambda what, done, total: None,
) -> dict[str, Any]:
    """Measure training steps.

    Each contestant is built and warmed up; then, in every round, each does one step with the clock of its parts off,
    one after the other, and then one with the clock on. What disturbs the machine for a while disturbs all of them.

    Args:
        entries: what to measure; the first is what the others are compared with. One alone reads the clips of its
            ``data.train``, several are fed noise.
        device: where.
        repeats: rounds.
        warmup: steps of each contestant that do not count.
        scale: what grows from entry to entry, for the exponent.
        trace: profile a step of the first contestant and write its trace here.
        progress: told what is done, how much of it, of how much.

    Returns:
        Plain values for JSON; units are in the names.

    Raises:
        UsageError: it does not fit into memory, or the engine refuses the precision.
    """
    check_memory(entries, device)
    contestants = _take_turns(entries, device, repeats, warmup, progress)
    first = contestants[0]
    figures = [_figures(one, first, number) for number, one in enumerate(contestants)]
    report = head_of(figures, repeats=repeats, warmup=warmup)
    if scale is not None:
        sizes = [float(one.entry.size or 0.0) for one in contestants]
        report["scale"] = scaling_of(scale, SCALES[scale], sizes, [one.step_seconds for one in contestants])
    if trace is not None:
        progress("profiling", 1, 1)
        report["profile"] = profile_step(first, trace)
    report["environment"] = environment_of(device, first.precision, first.entry.loaded.recipe.seed)
    return report


def _take_turns(
    entries: Sequence[Entry], device: torch.device, repeats: int, warmup: int, progress: Progress
) -> list[Contestant]:
    """Build and warm up every contestant, then let them take turns."""
    total = len(entries) * (1 + 2 * repeats)
    contestants: list[Contestant] = []
    for number, entry in enumerate(entries):
        progress(f"{entry.name}: warming up", number, total)
        contestant = Contestant(entry, device, real=len(entries) == 1)
        contestant.warm_up(warmup)
        contestant.rate.probe()
        contestants.append(contestant)
    done = len(entries)
    for _ in range(repeats):
        for each in (Contestant.measure, Contestant.measure_parts):
            for contestant in contestants:
                progress(contestant.entry.name, done, total)
                each(contestant)
                done += 1
        for contestant in contestants:
            contestant.rate.probe()
    return contestants


def _figures(one: Contestant, first: Contestant, number: int) -> dict[str, Any]:
    """Return what was measured of a contestant, beside what the first one took."""
    step = spread(one.step_seconds)
    facts = one.facts()
    clips, plan = facts["batch_clips"], one.entry.plan
    rate = plan.gflop_per_clip * clips / step["median"]
    # On the CPU memory is what the process grew by, and later contestants use what earlier ones left.
    memory = one.peak_bytes if number == 0 or one.device.type == "cuda" else None
    parts = {part: _part(one, part) for part in (*PARTS, REST)}
    figures = {
        **facts,
        "step_seconds": step,
        "clips_per_second": clips / step["median"],
        "parts": {part: value for part, value in parts.items() if value["seconds"] or part == REST},
        "split_to_plain": ratio(one.split_seconds, one.step_seconds),
        "data_wait_share": parts["data"]["share"] if facts["data"] != NOISE else None,
        "gflop_per_clip": plan.gflop_per_clip,
        "model_gflop_per_second": rate,
        "matrix_product": {
            "rows": one.rate.rows,
            "dim": one.rate.dim,
            "gflop_per_second": one.rate.gflop_per_second,
        },
        "model_flops_utilisation": rate / one.rate.gflop_per_second,
        "graphs_compiled_after_warmup": one.recompiled,
        "peak_memory_bytes": memory,
        "peak_memory_is": one.peak.how,
        "each": {
            "step_seconds": one.step_seconds,
            "split_seconds": one.split_seconds,
            "parts_seconds": one.parts_seconds,
        },
    }
    if one is not first:
        figures["step_to_first"] = ratio(one.step_seconds, first.step_seconds)
    return figures


def _part(one: Contestant, part: str) -> dict[str, float]:
    """Return a part's median seconds and its median share of a step; 0 for a part that the recipe has not."""
    seconds = np.array([parts.get(part, 0.0) for parts in one.parts_seconds])
    share = seconds / np.array(one.split_seconds)
    return {"seconds": float(np.median(seconds)), "share": float(np.median(share))}
