"""What ``ssl-wb evaluate`` is given: tasks, evaluators with their options, the row to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ssl_wb.data.clips import SourceSettings
    from ssl_wb.plugin.evaluator import Evaluator
    from ssl_wb.recipe.origins import Location, Origin
    from ssl_wb.tasks.task import LoadedTask

__all__ = ["baseline_row", "read_tasks", "with_options"]


def baseline_row(baseline: str, names: Mapping[str, str | Path], *, untrained: bool, plain: bool) -> str:
    """Return the row that ``--baseline`` means, before hours go into probing.

    Raises:
        UsageError: there will be no such row.
    """
    from ssl_wb.errors import UsageError, did_you_mean
    from ssl_wb.evaluation.baselines import baselines

    runs = {name: source for name, source in names.items() if isinstance(source, Path)}
    rows = [*names, *(f"{name}, untrained" for name in runs if untrained), *(baselines() if plain else {})]
    if baseline in rows:
        return baseline
    for name, path in runs.items():
        if path.resolve() == Path(baseline).resolve():
            return name
    raise UsageError(
        f"--baseline {baseline}: no row is named so{did_you_mean(baseline, rows)}",
        hint=f"The rows are {', '.join(rows)}; a run folder among those probed will do, too.",
    )


def read_tasks(
    sources: Sequence[Path], metrics: Sequence[str], domains: Sequence[str], encoders: Mapping[str, str | Path]
) -> list[LoadedTask]:
    """Read the tasks, each with the metric and the domain asked for it.

    Args:
        sources: manifests, or other places of labelled clips.
        metrics: each ``TASK=METRIC``.
        domains: each ``TASK=DOMAIN``.
        encoders: by name; clips that are generated for a run are those of the first run among them.

    Raises:
        UsageError: a ``--metric`` or ``--domain`` is not so or names no task, or clips are generated, and no run is
            given.
    """
    from ssl_wb.data.clips import find_source
    from ssl_wb.tasks.task import load_task

    generated = [find_source(source).generates for source in sources]
    names = [source.stem for source, made in zip(sources, generated, strict=True) if not made]
    metric = _by_task("--metric", "METRIC", metrics, names)
    domain = _by_task("--domain", "DOMAIN", domains, names)
    return [
        load_task(source, settings=_settings_of_run(source, encoders))
        if made
        else load_task(source, metric=metric.get(source.stem), domain=domain.get(source.stem))
        for source, made in zip(sources, generated, strict=True)
    ]


def _by_task(flag: str, value: str, given: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Read several ``TASK=VALUE``."""
    from ssl_wb.errors import UsageError, did_you_mean

    wanted: dict[str, str] = {}
    for one in given:
        name, equals, text = one.partition("=")
        if not equals or name not in names:
            raise UsageError(
                f"{flag} {one}: expected TASK={value}{did_you_mean(name, names)}",
                hint=f"TASK is the name of a manifest without its ending: {', '.join(names) or 'none is given'}.",
            )
        wanted[name] = text.strip()
    return wanted


def _settings_of_run(place: Path, encoders: Mapping[str, str | Path]) -> SourceSettings:
    """Return the settings of the first run, whose folder holds the generated clips."""
    from ssl_wb.data.clips import find_source
    from ssl_wb.errors import UsageError
    from ssl_wb.recipe.load import load_recipe
    from ssl_wb.runs.folder import RunFolder
    from ssl_wb.workflows.preflight import source_settings

    runs = [source for source in encoders.values() if isinstance(source, Path)]
    if not runs:
        raise UsageError(
            f"--task {place}: the {find_source(place).name} are those of a run, and none is given",
            hint="Give a run folder, too, or a manifest as the task.",
        )
    folder = RunFolder(runs[0])
    folder.require_run()
    return source_settings(load_recipe(folder.resolved), folder.path)


def with_options(names: Sequence[str], settings: Sequence[str]) -> list[tuple[str, Evaluator]]:
    """Build evaluators with their options.

    Raises:
        UsageError: settings that are not ``EVALUATOR.KEY=VALUE`` or do not fit the evaluator's options, all at once.
        PluginError: no such evaluator.
    """
    from ssl_wb.errors import UsageError
    from ssl_wb.plugin.registry import load_registry
    from ssl_wb.recipe.origins import Origin
    from ssl_wb.recipe.overrides import parse_value
    from ssl_wb.recipe.problems import check_model
    from ssl_wb.recipe.tree import Tree

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
