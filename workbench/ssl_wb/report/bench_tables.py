"""A benchmark's report as tables."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Table", "bench_tables"]


class Table(NamedTuple):
    """Headings, and one text per heading in each row."""

    columns: list[str]
    rows: list[list[str]]


def bench_tables(report: dict[str, Any], heading: str) -> list[Table | str]:
    """Return the tables of a report, and lines of text between them.

    Args:
        report: as ``bench`` measured it.
        heading: what the measured recipes differ in: ``MASKER``, ``RECIPE``, ``PROCESSES``, ...
    """
    measured = report["contestants"]
    shown: list[Table | str]
    if heading == "PROCESSES":
        return [_processes(measured)]
    shown = _one(report, measured[0]) if len(measured) == 1 else [_comparison(measured, heading)]
    if "scale" in report:
        scale = report["scale"]
        grows = f"step time grows with {scale['unit']} to the power {scale['exponent']:.3f} (95 %: {_range(scale)})"
        shown += [grows]
    if "profile" in report:
        kinds = report["profile"]["kinds"]
        rows = [[kind, _seconds(one["seconds"]), f"{one['share']:.1%}"] for kind, one in kinds.items()]
        shown += [Table(["OPERATIONS", "TIME", "SHARE"], rows)]
    return shown


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 10 else f"{value:.3f} s" if value >= 1 else f"{1000 * value:.2f} ms"


def _range(figures: dict[str, float]) -> str:
    return f"{figures['low']:.3f} to {figures['high']:.3f}"


def _spread(step: dict[str, float]) -> str:
    return f"{_seconds(step['p10'])} to {_seconds(step['p90'])}"


def _one(report: dict[str, Any], one: dict[str, Any]) -> list[Table | str]:
    """Return what a single recipe takes, and its parts."""
    step, product, extra = one["step_seconds"], one["matrix_product"], one["split_to_plain"]
    memory = one["peak_memory_bytes"]
    rows = [
        ["recipe", one["title"] or one["recipe"]],
        ["measured", f"{report['repeats']} steps after {report['warmup_steps']}, at progress {report['progress']:g}"],
        ["batch", f"{one['batch_clips']} clips of {one['clip_seconds']:g} s ({one['data']})"],
        ["precision", f"{one['precision']} on {report['environment']['device']['type']}"],
        ["step", f"{_seconds(step['median'])} (10 to 90 %: {_spread(step)})"],
        ["speed", f"{one['clips_per_second']:.2f} clips per second"],
        ["operations", f"{one['gflop_per_clip']:.2f} GFLOP per clip: {one['model_gflop_per_second']:.1f} GFLOP/s"],
        [
            "matrix product",
            f"{product['gflop_per_second']:.1f} GFLOP/s at best ({product['rows']} x {product['dim']} x "
            f"{4 * product['dim']})",
        ],
        ["utilisation", f"{one['model_flops_utilisation']:.1%} of the matrix product's rate"],
        ["peak memory", "not known here" if memory is None else f"{memory / 2**20:.0f} MiB ({one['peak_memory_is']})"],
    ]
    if one["graphs_compiled_after_warmup"] is not None:
        rows.append(["compiled", f"{one['graphs_compiled_after_warmup']} graphs after the warm-up"])
    if one["data_wait_share"] is not None:
        rows.append(["data wait", f"{one['data_wait_share']:.2%} of the step"])
    rows.append(["profiler", f"steps with the parts timed take {extra['median']:.3f} times as long ({_range(extra)})"])
    parts = sorted(one["parts"].items(), key=lambda item: item[0] == "rest")
    return [
        Table(["WHAT", "MEASURED"], rows),
        Table(
            ["PART", "TIME", "SHARE"],
            [[name, _seconds(part["seconds"]), f"{part['share']:.2%}"] for name, part in parts],
        ),
    ]


def _processes(measured: list[dict[str, Any]]) -> Table:
    """Return how the step of one batch shrinks with the processes that share it."""
    rows = [
        [
            str(one["processes"]),
            str(one["threads"]),
            _seconds(one["step_seconds"]["median"]),
            _spread(one["step_seconds"]),
            f"{one['clips_per_second']:.2f}",
            f"{one['share_of_ideal']['median']:.3f}",
            _range(one["share_of_ideal"]) if number else "",
        ]
        for number, one in enumerate(measured)
    ]
    return Table(["PROCESSES", "THREADS EACH", "STEP", "10 TO 90 %", "CLIPS/S", "OF IDEAL", "95 %"], rows)


def _comparison(measured: list[dict[str, Any]], heading: str) -> Table:
    """Return recipes one below the other, each against the first."""
    by_masker = heading == "MASKER"
    first = measured[0]["name"]
    columns = [heading, "STEP", "10 TO 90 %", "CLIPS/S", "UTILISATION"]
    columns += (["MASKING"] if by_masker else []) + [f"STEP / {first.upper()}", "95 %"]
    rows = []
    for number, one in enumerate(measured):
        step, compared = one["step_seconds"], one.get("step_to_first")
        rows.append(
            [
                # One recipe with other settings has the same name.
                one["name"] + (" (against)" if number and one["name"] == first else ""),
                _seconds(step["median"]),
                _spread(step),
                f"{one['clips_per_second']:.2f}",
                f"{one['model_flops_utilisation']:.1%}",
                *([f"{one['parts']['masking']['share']:.2%}"] if by_masker else []),
                f"{compared['median']:.3f}" if compared else "1",
                _range(compared) if compared else "",
            ]
        )
    return Table(columns, rows)
