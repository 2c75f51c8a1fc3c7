"""``ssl-wb evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssl_wb.cli.output import JsonFlag, echo_json

if TYPE_CHECKING:
    from ssl_wb.contracts.evaluator import Evaluator

__all__ = ["evaluate"]


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    task: Annotated[list[Path], typer.Option(help="Manifest CSV with labels. Repeatable.")],
    evaluator: Annotated[list[str] | None, typer.Option(help="Name of an evaluator. Repeatable; linear.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="EVALUATOR.KEY=VALUE", help="Option of an evaluator, as linear.lr=0.001."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions of each probe.")] = 3,
    untrained: Annotated[bool, typer.Option(help="Probe the weights the run started from, too.")] = True,
    baselines: Annotated[bool, typer.Option(help="Probe plain log-mel statistics, too.")] = True,
    checkpoint: Annotated[str, typer.Option(help="Checkpoint to use: last or best.")] = "last",
    as_json: Annotated[bool, JsonFlag] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a markdown table.")] = False,
) -> None:
    """Probe the frozen encoder of a run on labelled clips."""
    from rich.console import Console
    from rich.progress import Progress

    from ssl_wb.evaluate.runner import evaluate_run
    from ssl_wb.evaluate.tasks import load_task
    from ssl_wb.report.tables import markdown, print_table

    probes = _evaluators(evaluator or ["linear"], settings or [])
    tasks = [load_task(path) for path in task]
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        shown = bar.add_task("", total=None)
        rows = evaluate_run(
            run,
            tasks,
            probes,
            range(seeds),
            with_untrained=untrained,
            with_baselines=baselines,
            checkpoint=checkpoint,
            progress=lambda what, done, total: bar.update(shown, description=what, completed=done, total=total),
        )
    if as_json:
        echo_json([row.as_json() for row in rows])
    elif as_markdown:
        typer.echo(markdown(rows))
    else:
        print_table(rows)


def _evaluators(names: list[str], settings: list[str]) -> list[tuple[str, Evaluator]]:
    """Build evaluators with their options.

    Raises:
        UsageError: a setting that is not ``EVALUATOR.KEY=VALUE`` or does not fit the evaluator's options.
    """
    from pydantic import ValidationError

    from ssl_wb.errors import UsageError
    from ssl_wb.recipe.overrides import parse_value
    from ssl_wb.registry import load_registry

    options: dict[str, dict[str, Any]] = {name: {} for name in names}
    for setting in settings:
        key, equals, value = setting.partition("=")
        owner, dot, option = key.partition(".")
        if not (equals and dot) or owner not in options:
            raise UsageError(
                f"--set {setting}: expected EVALUATOR.KEY=VALUE, EVALUATOR one of {', '.join(options)}",
                hint="for example --set linear.lr=0.001",
            )
        options[owner][option] = parse_value(value)
    registry = load_registry()
    built = []
    for name in names:
        plugin: Any = registry.get("evaluator", name)
        try:
            built.append((name, plugin(plugin.Options(**options[name]))))
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise UsageError(f"--set for evaluator {name!r}: {faults}", hint=f"ssl-wb describe evaluator {name}") from error
    return built
