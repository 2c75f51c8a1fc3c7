"""``ssl-wb tasks``: list and show the installed tasks, and make their manifests from original downloads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssl_wb.cli.output import JsonFlag, echo_json, echo_table
from ssl_wb.errors import UsageError

if TYPE_CHECKING:
    from ssl_wb.plugin.task import Task

__all__ = ["app"]

app = typer.Typer(help="List and show the installed tasks, and make their manifests. Without a subcommand: list them.")

Name = Annotated[str, typer.Argument(help="Name of a task.")]


@app.callback(invoke_without_command=True)
def _without_subcommand(context: typer.Context, as_json: Annotated[bool, JsonFlag] = False) -> None:
    if context.invoked_subcommand is None:
        list_tasks(as_json)
    elif as_json:
        raise UsageError("--json goes after the subcommand", hint="ssl-wb tasks list --json")


@app.command("list")
def list_tasks(as_json: Annotated[bool, JsonFlag] = False) -> None:
    """List the installed tasks; SECONDS is the published protocol's clip length, but clips are embedded whole."""
    from ssl_wb.report.domain_order import in_order
    from ssl_wb.tasks.installed import installed_tasks

    tasks = installed_tasks()
    domains = in_order(task.domain for task in tasks.values())
    ordered = sorted(tasks.items(), key=lambda named: domains.index(named[1].domain))
    if as_json:
        echo_json([_task_json(name, task) for name, task in ordered])
        return
    echo_table(
        ["NAME", "DOMAIN", "METRIC", "LABELS", "CLASSES", "SECONDS", "DIVISION", "TITLE"],
        [
            [
                *(name, task.domain, task.metric, "several" if task.multi_label else "one"),
                *(str(task.classes or "?"), f"{task.clip_seconds:g}", task.division, task.title),
            ]
            for name, task in ordered
        ],
        optional=["TITLE", "DIVISION", "LABELS", "SECONDS", "CLASSES"],
    )


@app.command("show")
def show(name: Name, as_json: Annotated[bool, JsonFlag] = False) -> None:
    """Show a task: metric, split, where to download it, the files that are expected, and what is doubtful.

    The clip length is that of the published protocol; the workbench embeds clips whole.
    """
    from ssl_wb.tasks.installed import find_task
    from ssl_wb.tasks.make import manifest_columns

    task = find_task(name)
    if as_json:
        echo_json(_task_json(name, task))
        return
    seconds = f"{task.clip_seconds:g} s"
    if task.stretches:
        length = f"{seconds}, which the manifest takes of each file (start, duration); embedded whole"
    else:
        length = f"{seconds} in the published protocol; the workbench embeds clips whole, at any length"
    lines = [
        ("metric", task.metric),
        ("labels", "several per clip" if task.multi_label else "one per clip"),
        ("classes", str(task.classes or "not stated")),
        ("clip length", length),
        ("division", task.division),
        ("counts", ", ".join(f"{part} {count:,}" for part, count in task.known.items()) or "not stated"),
        ("get it at", task.homepage),
        ("licence", task.licence),
        ("columns", ", ".join(manifest_columns(task))),
    ]
    typer.echo(f"{name}  ({task.domain})\n{task.title}\n")
    for key, value in lines:
        typer.echo(f"{key + ':':<13}{value}")
    typer.echo(f"\nBelow --root of `ssl-wb tasks make {name}`:")
    for line in task.layout:
        typer.echo(f"  {line}")
    if task.notes:
        typer.echo("\nNotes:")
        for note in task.notes:
            typer.echo(f"  - {note}")


@app.command("make")
def make(
    name: Name,
    root: Annotated[Path, typer.Option(help="Folder of the download, in its original layout.")],
    out: Annotated[Path, typer.Option(help="Manifest to write: a .csv file.")],
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Write it even if more than a tenth of the clips is missing.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write the manifest of a task from its downloaded files, and report what is missing."""
    from ssl_wb.tasks.installed import find_task
    from ssl_wb.tasks.make import make_manifest

    made = make_manifest(
        find_task(name), root.expanduser(), out.expanduser(), allow_missing=allow_missing, overwrite=overwrite
    )
    for remark in made.remarks:
        typer.echo(f"warning: {remark}", err=True)
    counts = ", ".join(f"{part} {count:,}" for part, count in made.counts.items())
    typer.echo(f"{made.clips:,} clips of {made.classes:,} classes: {counts}", err=True)
    typer.echo(str(made.path))


def _task_json(name: str, task: Task) -> dict[str, Any]:
    """Return what ``--json`` says of a task."""
    from ssl_wb.tasks.make import manifest_columns

    return {
        "name": name,
        **{key: getattr(task, key) for key in ("title", "domain", "metric", "multi_label", "classes")},
        **{key: getattr(task, key) for key in ("clip_seconds", "division")},
        "known_counts": dict(task.known),
        **{key: getattr(task, key) for key in ("homepage", "licence", "layout")},
        "manifest_columns": list(manifest_columns(task)),
        "notes": list(task.notes),
    }
