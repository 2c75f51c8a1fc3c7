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


# More than fifty lines, most of them the options and their help.
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
    from ssl_wb.bench.entries import load_entries
    from ssl_wb.errors import UsageError
    from ssl_wb.report.bench_tables import bench_tables

    where = _device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("bench measures one process", hint="start it without a launcher")
    if scale is ScaleOver.PROCESSES and profile is not None:
        raise UsageError("--profile looks at one process", hint="leave out --scale processes")
    entries = load_entries(
        recipe,
        settings or (),
        batch,
        against=against,
        against_overrides=against_settings or (),
        maskers=maskers,
        scale=_grows(scale),
    )
    report = _measured(entries, scale, profile, device=where, repeats=repeats, warmup=warmup)
    if chart is not None:
        from ssl_wb.bench.chart import draw_scaling

        draw_scaling(report, chart)
    if str(json_file) == "-":
        echo_json(report)
        return
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for number, shown in enumerate(bench_tables(report, "MASKER" if maskers else scale.name if scale else "RECIPE")):
        if number:
            typer.echo("")
        if isinstance(shown, str):
            typer.echo(shown)
        else:
            echo_table(*shown)
    if profile is not None:
        typer.echo(f"trace of one step, to open at ui.perfetto.dev: {profile}", err=True)


def _grows(scale: ScaleOver | None) -> Scale | None:
    """Return what grows from entry to entry; processes share one entry."""
    return None if scale is None or scale is ScaleOver.PROCESSES else cast("Scale", scale.value)


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


def _measured(entries: list[Entry], scale: ScaleOver | None, profile: Path | None, **options: Any) -> dict[str, Any]:
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
            return bench_processes(entries[0], progress=progress, **options)
        return measure(entries, scale=_grows(scale), trace=profile, progress=progress, **options)
