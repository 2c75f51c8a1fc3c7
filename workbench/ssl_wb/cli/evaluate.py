"""``ssl-wb evaluate``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssl_wb.cli.output import JsonFlag, echo_json

if TYPE_CHECKING:
    from ssl_wb.contracts.evaluator import Evaluator
    from ssl_wb.evaluate.tasks import LoadedTask
    from ssl_wb.recipe.origins import Location, Origin

__all__ = ["evaluate"]


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    task: Annotated[list[Path], typer.Option(help="Manifest CSV with labels, or synthetic:scenes. Repeatable.")],
    evaluator: Annotated[list[str] | None, typer.Option(help="Name of an evaluator. Repeatable; linear.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="EVALUATOR.KEY=VALUE", help="Option of an evaluator, as linear.lr=0.001."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions of each probe.")] = 3,
    untrained: Annotated[bool, typer.Option(help="Probe the weights the run started from, too.")] = True,
    baselines: Annotated[bool, typer.Option(help="Probe plain log-mel statistics, too.")] = True,
    checkpoint: Annotated[str, typer.Option(help="Checkpoint to use: last or best.")] = "last",
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one.")] = None,
    as_json: Annotated[bool, JsonFlag] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a markdown table.")] = False,
) -> None:
    """Probe the frozen encoder of a run on labelled clips."""
    from rich.console import Console
    from rich.progress import Progress

    from ssl_wb.evaluate.runner import evaluate_run
    from ssl_wb.evaluate.tasks import load_task
    from ssl_wb.recipe.schema import SYNTHETIC
    from ssl_wb.report.tables import markdown, print_table
    from ssl_wb.train.precision import best_device

    probes = _evaluators(evaluator or ["linear"], settings or [])
    tasks = [_scenes_of(run) if str(path) == SYNTHETIC else load_task(path) for path in task]
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
            device=device or best_device(),
            progress=lambda what, done, total: bar.update(shown, description=what, completed=done, total=total),
        )
    if as_json:
        echo_json([row.as_json() for row in rows])
    elif as_markdown:
        typer.echo(markdown(rows))
    else:
        print_table(rows)


def _scenes_of(run: Path) -> LoadedTask:
    """Return the synthetic scenes of a run as a task."""
    from ssl_wb.cli.checks import scenes_task
    from ssl_wb.recipe.load import load_recipe
    from ssl_wb.train.run_folder import RunFolder

    folder = RunFolder(run)
    folder.require_run()
    return scenes_task(load_recipe(folder.resolved), folder)


def _evaluators(names: list[str], settings: list[str]) -> list[tuple[str, Evaluator]]:
    """Build evaluators with their options.

    Raises:
        UsageError: settings that are not ``EVALUATOR.KEY=VALUE`` or do not fit the evaluator's options, all at once.
        PluginError: no such evaluator.
    """
    from ssl_wb.errors import UsageError
    from ssl_wb.recipe.origins import Origin
    from ssl_wb.recipe.overrides import parse_value
    from ssl_wb.recipe.problems import check_model
    from ssl_wb.recipe.tree import Tree
    from ssl_wb.registry import load_registry

    names = list(dict.fromkeys(names))
    tree = Tree(Path())
    tree.overlay((), {name: {} for name in names}, lambda _: Origin())
    mistakes: list[str] = []
    for setting in settings:
        key, equals, value = setting.partition("=")
        owner, _, option = key.strip().rpartition(".")
        if not equals or not option or owner not in names:
            mistakes.append(f"--set {setting}: expected EVALUATOR.KEY=VALUE, EVALUATOR one of {', '.join(names)}")
        else:
            tree.put((owner, option), parse_value(value), partial(_origin, setting))
    registry = load_registry()
    built: list[tuple[str, Evaluator]] = []
    for name in names:
        plugin: Any = registry.get("evaluator", name)
        options = check_model(plugin.Options, tree.value((name,)), (name,), tree, owner=f"evaluator {name!r}")
        if isinstance(options, list):
            mistakes += map(str, options)
        else:
            built.append((name, plugin(options)))
    if mistakes:
        raise UsageError("\n".join(mistakes), hint="`ssl-wb describe evaluator NAME` lists what can be set")
    return built


def _origin(setting: str, at: Location) -> Origin:
    """Name a ``--set`` as the origin of the value at ``at``."""
    from ssl_wb.recipe.origins import Origin

    del at  # every part of one value has one origin
    return Origin(override=setting)
