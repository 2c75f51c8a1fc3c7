"""The measurement: recipes take turns, step by step, and every figure follows from their times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_wb.bench.entries import SCALES, Scale, check_memory
from ssl_wb.bench.figures import ratio, spread
from ssl_wb.bench.inputs import NOISE
from ssl_wb.bench.parts import REST
from ssl_wb.bench.profile import profile_step
from ssl_wb.bench.report import environment_of, head_of, scaling_of
from ssl_wb.bench.timed_trainer import Entry, TimedTrainer
from ssl_wb.layers.parts import PARTS

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

    Each recipe's trainer is built and warmed up; then, in every round, each does one step, one after the other, and
    then one under the profiler, for its parts. What disturbs the machine for a while disturbs all of them.

    Args:
        entries: what to measure; the first is what the others are compared with. One alone reads the clips of its
            ``data.train``, several are fed noise.
        device: where.
        repeats: rounds.
        warmup: steps of each that do not count.
        scale: what grows from entry to entry, for the exponent.
        trace: profile a step of the first entry and write its trace here.
        progress: told what is done, how much of it, of how much.

    Returns:
        Plain values for JSON; units are in the names.

    Raises:
        UsageError: it does not fit into memory, or the engine refuses the precision.
    """
    check_memory(entries, device)
    trainers = _take_turns(entries, device, repeats, warmup, progress)
    first = trainers[0]
    figures = [_figures(one, first, number) for number, one in enumerate(trainers)]
    report = head_of(figures, repeats=repeats, warmup=warmup)
    if scale is not None:
        sizes = [float(one.entry.size or 0.0) for one in trainers]
        report["scale"] = scaling_of(scale, SCALES[scale], sizes, [one.step_seconds for one in trainers])
    if trace is not None:
        progress("profiling", 1, 1)
        report["profile"] = profile_step(first, trace)
    report["environment"] = environment_of(device, first.precision, first.entry.loaded.recipe.seed)
    return report


def _take_turns(
    entries: Sequence[Entry], device: torch.device, repeats: int, warmup: int, progress: Progress
) -> list[TimedTrainer]:
    """Build and warm up every trainer, then let them take turns."""
    total = len(entries) * (1 + 2 * repeats)
    trainers: list[TimedTrainer] = []
    for number, entry in enumerate(entries):
        progress(f"{entry.name}: warming up", number, total)
        trainer = TimedTrainer(entry, device, real=len(entries) == 1)
        trainer.warm_up(warmup)
        trainer.matmul_peak.probe()
        trainers.append(trainer)
    done = len(entries)
    for _ in range(repeats):
        for each in (TimedTrainer.measure, TimedTrainer.measure_parts):
            for trainer in trainers:
                progress(trainer.entry.name, done, total)
                each(trainer)
                done += 1
        for trainer in trainers:
            trainer.matmul_peak.probe()
    return trainers


def _figures(one: TimedTrainer, first: TimedTrainer, number: int) -> dict[str, Any]:
    """Return what was measured of one trainer, and its ratio to the first one."""
    step = spread(one.step_seconds)
    facts = one.facts()
    clips, plan = facts["batch_clips"], one.entry.plan
    rate = plan.gflop_per_clip * clips / step["median"]
    # On the CPU memory is what the process grew by, and later trainers reuse what earlier ones freed.
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
            "rows": one.matmul_peak.rows,
            "dim": one.matmul_peak.dim,
            "gflop_per_second": one.matmul_peak.gflop_per_second,
        },
        "model_flops_utilisation": rate / one.matmul_peak.gflop_per_second,
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


def _part(one: TimedTrainer, part: str) -> dict[str, float]:
    """Return a part's median seconds and its median share of a step; 0 for a part that the recipe does not have."""
    seconds = np.array([parts.get(part, 0.0) for parts in one.parts_seconds])
    share = seconds / np.array(one.split_seconds)
    return {"seconds": float(np.median(seconds)), "share": float(np.median(share))}
