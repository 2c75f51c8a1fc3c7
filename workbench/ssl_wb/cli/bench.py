"""``ssl-wb bench``."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ssl_wb.cli import completion
from ssl_wb.cli.arguments import Recipe, Settings
from ssl_wb.cli.output import echo_json, echo_table

if TYPE_CHECKING:
    import torch

    from ssl_wb.bench.entries import Scale
    from ssl_wb.bench.timed_trainer import Entry

__all__ = ["bench"]


class ScaleOver(StrEnum):
    """What grows."""

    BATCH = "batch"
    SECONDS = "seconds"
    SIZE = "size"
    PROCESSES = "processes"


# Long because every option is a parameter.
def bench(
    recipe: Recipe,
    settings: Settings = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Clips per step, in one micro-batch.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; each times a step twice.")] = 10,
    warmup: Annotated[int, typer.Option(min=1, help="Steps that do not count.")] = 2,
    against: Annotated[
        str | None,
        typer.Option(metavar="RECIPE", help="Take turns with another recipe.", autocompletion=completion.recipes),
    ] = None,
    against_settings: Annotated[
        list[str] | None,
        typer.Option("--against-set", metavar="KEY=VALUE", help="Change a value of the other recipe, after --set."),
    ] = None,
    maskers: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME:KEY=VALUE,...", help="Take turns with maskers; compared with random."),
    ] = None,
    scale: Annotated[
        ScaleOver | None,
        typer.Option(
            help="Measure a range (x 1 2 4 8; tiny, small, base) and fit the exponent; or 1, 2, 4, ... processes that "
            "share the batch."
        ),
    ] = None,
    chart: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the curve of --scale.")] = None,
    profile: Annotated[
        Path | None, typer.Option(metavar="FILE.json[.gz]", help="Profile a step: shares, and a trace for Perfetto.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every figure; - prints it instead of tables.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one.")] = None,
) -> None:
    """Time training steps: spread, parts, utilisation, memory.

    Fed noise, and with --set data.train=... alone, the clips themselves.
    """
    _check_combination(against, against_settings, maskers, scale, chart)
    _check_files(json_file, profile, chart)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler talks to stderr; read when torch is imported, below
    where = _device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from ssl_wb.errors import UsageError

        raise UsageError("bench measures one process", hint="start it without a launcher")
    if scale is ScaleOver.PROCESSES:
        _check_processes(profile)
    entries = _entries(recipe, settings or [], batch, against, against_settings or [], maskers, scale)
    report = _measured(entries, where, repeats, warmup, scale, profile)
    if chart is not None:
        from ssl_wb.bench.chart import draw_scaling

        draw_scaling(report, chart)
    if str(json_file) == "-":
        echo_json(report)
        return
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _print(report, "MASKER" if maskers else scale.name if scale else "RECIPE")


def _check_combination(
    against: str | None,
    against_settings: list[str] | None,
    maskers: str | None,
    scale: ScaleOver | None,
    chart: Path | None,
) -> None:
    """Refuse options that do not go together."""
    from ssl_wb.errors import UsageError

    given = [name for name, value in (("--against", against), ("--maskers", maskers), ("--scale", scale)) if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are different comparisons", hint="one at a time")
    if against_settings and not against:
        raise UsageError("--against-set changes the recipe of --against, and there is none")
    if chart is not None and scale is None:
        raise UsageError("--chart draws the curve of --scale, and there is none")


def _check_processes(profile: Path | None) -> None:
    """Refuse what one process alone can show."""
    from ssl_wb.errors import UsageError

    if profile is not None:
        raise UsageError("--profile looks at one process", hint="leave out --scale processes")


def _check_files(json_file: Path | None, profile: Path | None, chart: Path | None) -> None:
    """Refuse files that cannot be written, before minutes of measuring."""
    from ssl_wb.errors import UsageError

    if profile is not None and not profile.name.endswith((".json", ".json.gz")):
        raise UsageError(f"--profile {profile}: expected a file that ends in .json or .json.gz")
    if chart is not None and chart.suffix.lower() != ".png":
        raise UsageError(f"--chart {chart}: expected a file that ends in .png")
    for name, file in (("--json", json_file), ("--profile", profile), ("--chart", chart)):
        if file is None or str(file) == "-":
            continue
        if file.is_dir() or not file.parent.is_dir():
            fault = "is a folder" if file.is_dir() else f"there is no folder {file.parent}"
            raise UsageError(f"{name} {file}: {fault}")


def _device(name: str | None) -> torch.device:
    """Return the device asked for, or the best one.

    Raises:
        UsageError: it is not there.
    """
    from ssl_wb.errors import UsageError
    from ssl_wb.runs.device import best_device

    best = best_device(cpu=name == "cpu")
    if name is not None and name not in ("cpu", best.type):
        fault = "there is no CUDA device here" if name == "cuda" else "expected cpu or cuda"
        raise UsageError(f"--device {name}: {fault}")
    return best


def _entries(
    recipe: str,
    settings: list[str],
    batch: int | None,
    against: str | None,
    against_settings: list[str],
    maskers: str | None,
    scale: ScaleOver | None,
) -> list[Entry]:
    """Load what is to be measured."""
    from ssl_wb.bench.entries import masker_entries, parse_maskers, recipe_entry, scale_entries

    if maskers is not None:
        return masker_entries(recipe, settings, batch, parse_maskers(maskers))
    if scale is not None and scale is not ScaleOver.PROCESSES:
        return scale_entries(recipe, settings, batch, cast("Scale", scale.value))
    entries = [recipe_entry(recipe, settings, batch)]
    if against is not None:
        entries.append(recipe_entry(against, [*settings, *against_settings], batch))
    return entries


def _measured(
    entries: list[Entry],
    device: torch.device,
    repeats: int,
    warmup: int,
    scale: ScaleOver | None,
    profile: Path | None,
) -> dict[str, Any]:
    """Measure behind a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import Progress

    from ssl_wb.bench.processes import bench_processes
    from ssl_wb.bench.run import bench as measure

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        shown = bar.add_task("", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bar.update(shown, description=what, completed=done, total=total)

        if scale is ScaleOver.PROCESSES:
            return bench_processes(entries[0], device=device, repeats=repeats, warmup=warmup, progress=progress)
        return measure(
            entries,
            device=device,
            repeats=repeats,
            warmup=warmup,
            scale=cast("Scale", scale.value) if scale is not None else None,
            trace=profile,
            progress=progress,
        )


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 10 else f"{value:.3f} s" if value >= 1 else f"{1000 * value:.2f} ms"


def _range(figures: dict[str, float], low: str = "low", high: str = "high") -> str:
    return f"{figures[low]:.3f} to {figures[high]:.3f}"


def _print(report: dict[str, Any], heading: str) -> None:
    """Print the tables; ``heading`` says what the contestants differ in."""
    contestants = report["contestants"]
    if heading == ScaleOver.PROCESSES.name:
        _print_processes(contestants)
    elif len(contestants) == 1:
        _print_one(report, contestants[0])
    else:
        _print_comparison(contestants, heading)
    if "scale" in report and heading != ScaleOver.PROCESSES.name:
        scale = report["scale"]
        typer.echo("")
        typer.echo(f"step time grows with {scale['unit']} to the power {scale['exponent']:.3f} (95 %: {_range(scale)})")
    if "profile" in report:
        shares = report["profile"]["kinds"]
        typer.echo("")
        echo_table(
            ["OPERATIONS", "TIME", "SHARE"],
            [[kind, _seconds(one["seconds"]), f"{one['share']:.1%}"] for kind, one in shares.items()],
        )
        typer.echo(f"trace of one step, to open at ui.perfetto.dev: {report['profile']['trace']}", err=True)


def _print_one(report: dict[str, Any], one: dict[str, Any]) -> None:
    """Print what a single recipe takes, and its parts."""
    step, product, extra = one["step_seconds"], one["matrix_product"], one["split_to_plain"]
    memory = one["peak_memory_bytes"]
    rows = [
        ["recipe", one["title"] or one["recipe"]],
        ["measured", f"{report['repeats']} steps after {report['warmup_steps']}, at progress {report['progress']:g}"],
        ["batch", f"{one['batch_clips']} clips of {one['clip_seconds']:g} s ({one['data']})"],
        ["precision", f"{one['precision']} on {report['environment']['device']['type']}"],
        ["step", f"{_seconds(step['median'])} (10 to 90 %: {_seconds(step['p10'])} to {_seconds(step['p90'])})"],
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
    rows.append(["clock", f"steps with the parts timed take {extra['median']:.3f} times as long ({_range(extra)})"])
    echo_table(["WHAT", "MEASURED"], rows)
    typer.echo("")
    parts = sorted(one["parts"].items(), key=lambda item: item[0] == "rest")
    echo_table(
        ["PART", "TIME", "SHARE"],
        [[name, _seconds(part["seconds"]), f"{part['share']:.2%}"] for name, part in parts],
    )


def _print_processes(contestants: list[dict[str, Any]]) -> None:
    """Print how the step of one batch shrinks with the processes that share it."""
    rows = []
    for one in contestants:
        step, ideal = one["step_seconds"], one["share_of_ideal"]
        rows.append(
            [
                str(one["processes"]),
                str(one["threads"]),
                _seconds(step["median"]),
                f"{_seconds(step['p10'])} to {_seconds(step['p90'])}",
                f"{one['clips_per_second']:.2f}",
                f"{ideal['median']:.3f}",
                _range(ideal) if one is not contestants[0] else "",
            ]
        )
    echo_table(["PROCESSES", "THREADS EACH", "STEP", "10 TO 90 %", "CLIPS/S", "OF IDEAL", "95 %"], rows)


def _print_comparison(contestants: list[dict[str, Any]], heading: str) -> None:
    """Print contestants one below the other, each against the first."""
    by_masker = heading == "MASKER"
    columns = [heading, "STEP", "10 TO 90 %", "CLIPS/S", "UTILISATION"]
    columns += (["MASKING"] if by_masker else []) + [f"STEP / {contestants[0]['name'].upper()}", "95 %"]
    rows = []
    for number, one in enumerate(contestants):
        step, compared = one["step_seconds"], one.get("step_to_first")
        name = one["name"]
        if number and name == contestants[0]["name"]:
            name += " (against)"  # one recipe with other settings
        rows.append(
            [
                name,
                _seconds(step["median"]),
                f"{_seconds(step['p10'])} to {_seconds(step['p90'])}",
                f"{one['clips_per_second']:.2f}",
                f"{one['model_flops_utilisation']:.1%}",
                *([f"{one['parts']['masking']['share']:.2%}"] if by_masker else []),
                f"{compared['median']:.3f}" if compared else "1",
                _range(compared) if compared else "",
            ]
        )
    echo_table(columns, rows)
