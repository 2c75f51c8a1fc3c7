"""``ssl-wb evaluate``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssl_wb.cli.output import JsonFlag, echo_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ssl_wb.contracts.evaluator import Evaluator
    from ssl_wb.evaluate.runner import Row
    from ssl_wb.evaluate.tasks import LoadedTask
    from ssl_wb.recipe.origins import Location, Origin

__all__ = ["evaluate"]


def evaluate(
    run: Annotated[list[Path], typer.Argument(help="Run folders.")],
    task: Annotated[list[Path], typer.Option(help="Manifest CSV with labels, or synthetic:scenes. Repeatable.")],
    evaluator: Annotated[list[str] | None, typer.Option(help="Name of an evaluator. Repeatable; linear.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="EVALUATOR.KEY=VALUE", help="Option of an evaluator, as linear.lr=0.001."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK=METRIC", help="Report another metric, as esc50='macro F1'. Repeatable."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Row to compare the others with: a run folder, or a name in the table.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions of each probe.")] = 3,
    untrained: Annotated[bool, typer.Option(help="Probe the weights each run started from, too.")] = True,
    baselines: Annotated[bool, typer.Option(help="Probe plain log-mel statistics, too.")] = True,
    checkpoint: Annotated[str, typer.Option(help="Checkpoint to use: last or best.")] = "last",
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one.")] = None,
    keep: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep embeddings, and use those kept.")] = True,
    timing: Annotated[bool, typer.Option("--timing", help="Tell what embedding and probing took.")] = False,
    as_json: Annotated[bool, JsonFlag] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a markdown table.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a line per encoder, task and evaluator.")] = False,
) -> None:
    """Probe the frozen encoders of runs on labelled clips, all in one table."""
    from rich.console import Console
    from rich.progress import Progress

    from ssl_wb.evaluate.runner import evaluate_runs, run_names
    from ssl_wb.train.precision import best_device

    probes = _evaluators(evaluator or ["linear"], settings or [])
    names = run_names(run)
    reference = None
    if baseline is not None:
        reference = _reference(baseline, names, untrained=untrained, plain=baselines)
    tasks = _tasks(task, metric or [], run[0])
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        shown = bar.add_task("", total=None)
        rows = evaluate_runs(
            run,
            tasks,
            probes,
            range(seeds),
            with_untrained=untrained,
            with_baselines=baselines,
            checkpoint=checkpoint,
            device=device or best_device(),
            keep=keep,
            progress=lambda what, done, total: bar.update(shown, description=what, completed=done, total=total),
        )
    _print(
        rows,
        reference,
        form="json" if as_json else "markdown" if as_markdown else "csv" if as_csv else "table",
        timing=timing,
    )


def _print(rows: list[Row], reference: str | None, *, form: str, timing: bool) -> None:
    """Print results on stdout."""
    from ssl_wb.evaluate.compare import compare
    from ssl_wb.report.tables import as_csv, markdown, print_table

    if form == "json":
        found = compare(rows, reference) if reference is not None else {}
        values = []
        for row in rows:
            value = row.as_json()
            if one := found.get((row.encoder, row.task, row.evaluator)):
                value["difference"] = {"baseline": reference, **one.as_json()}
            values.append(value)
        echo_json(values)
    elif form == "markdown":
        typer.echo(markdown(rows, reference))
    elif form == "csv":
        typer.echo(as_csv(rows, reference), nl=False)
    else:
        print_table(rows, baseline=reference, timing=timing)


def _reference(baseline: str, names: Mapping[str, Path], *, untrained: bool, plain: bool) -> str:
    """Return the row that ``--baseline`` means, before hours go into probing.

    Raises:
        UsageError: there will be no such row.
    """
    from ssl_wb.errors import UsageError
    from ssl_wb.evaluate.baselines import baselines
    from ssl_wb.suggest import did_you_mean

    rows = [*names, *(f"{name}, untrained" for name in names if untrained), *(baselines() if plain else {})]
    if baseline in rows:
        return baseline
    for name, path in names.items():
        if path.resolve() == Path(baseline).resolve():
            return name
    raise UsageError(
        f"--baseline {baseline}: no row is named so{did_you_mean(baseline, rows)}",
        hint=f"The rows are {', '.join(rows)}; a run folder among those probed will do, too.",
    )


def _tasks(sources: list[Path], metrics: list[str], run: Path) -> list[LoadedTask]:
    """Read the tasks, each with the metric asked for it.

    Raises:
        UsageError: a ``--metric`` is not ``TASK=METRIC`` or names no task.
    """
    from ssl_wb.errors import UsageError
    from ssl_wb.evaluate.tasks import load_task
    from ssl_wb.recipe.schema import SYNTHETIC
    from ssl_wb.suggest import did_you_mean

    wanted: dict[str, str] = {}
    names = [source.stem for source in sources if str(source) != SYNTHETIC]
    for given in metrics:
        name, equals, metric = given.partition("=")
        if not equals or name not in names:
            raise UsageError(
                f"--metric {given}: expected TASK=METRIC{did_you_mean(name, names)}",
                hint=f"TASK is the name of a manifest without its ending: {', '.join(names) or 'none is given'}.",
            )
        wanted[name] = metric
    return [
        _scenes_of(run) if str(source) == SYNTHETIC else load_task(source, metric=wanted.get(source.stem))
        for source in sources
    ]


def _scenes_of(run: Path) -> LoadedTask:
    """Return the synthetic scenes of a run, the first of several, as a task."""
    from ssl_wb.train.sources import scenes_task
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
