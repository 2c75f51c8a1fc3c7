"""Evaluate frozen encoders on labelled clips: what ``ssl-wb evaluate`` and ``ssl_wb.evaluate`` do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssl_wb.data.checks import QUICK, check_sample
from ssl_wb.data.clips import SourceSettings, find_source
from ssl_wb.encoder.clip_vectors import embedding_kind
from ssl_wb.encoder.folder import is_encoder_folder
from ssl_wb.errors import UsageError, did_you_mean
from ssl_wb.evaluation.baselines import baselines as baseline_encoders
from ssl_wb.evaluation.compare import compare
from ssl_wb.evaluation.encoders import encoder_names
from ssl_wb.evaluation.pooling import MEAN, check_pool
from ssl_wb.evaluation.results import Row
from ssl_wb.evaluation.runner import RunnerProgress, evaluate_runs
from ssl_wb.plugin.evaluator import Evaluator
from ssl_wb.plugin.registry import load_registry
from ssl_wb.recipe.load import load_recipe
from ssl_wb.recipe.overrides import parse_value
from ssl_wb.recipe.problems import check_model
from ssl_wb.recipe.tree import Location, Origin, Tree
from ssl_wb.report.probe_pictures import check_chart_folder, draw_probes
from ssl_wb.runs.device import named_device
from ssl_wb.runs.folder import RunFolder
from ssl_wb.scoring.metrics import kind_of
from ssl_wb.tasks.task import LoadedTask, load_task
from ssl_wb.workflows.preflight import source_settings

__all__ = ["Evaluation", "evaluate"]

log = logging.getLogger("ssl_wb")

#: Test clips below which a warning is given: with 100 a 95 % interval of an accuracy reaches 10 points to either side.
FEW_TESTED = 100


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        rows: one for each encoder, task and evaluator.
        baseline: name of the row that the others are compared with; None where there is none.
        pictures: files that were drawn.
        failures: errors of encoders, tasks or evaluators that failed; they have no row.
    """

    rows: list[Row]
    baseline: str | None = None
    pictures: list[Path] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    def as_json(self) -> list[dict[str, Any]]:
        """Return the rows as plain values, each with its difference to the baseline where there is one."""
        differences = compare(self.rows, self.baseline) if self.baseline is not None else {}
        values = []
        for row in self.rows:
            value = row.as_json()
            if difference := differences.get((row.encoder, row.task, row.evaluator)):
                value["difference"] = {"baseline": self.baseline, **difference.as_json()}
            values.append(value)
        return values


# More than fifty lines, most of them the arguments and their description.
def evaluate(
    encoders: Sequence[str | Path],
    tasks: Sequence[str | Path],
    *,
    evaluators: Sequence[str] = ("linear",),
    settings: Sequence[str] = (),
    metrics: Sequence[str] = (),
    domains: Sequence[str] = (),
    baseline: str | None = None,
    seeds: int = 3,
    untrained: bool = True,
    baselines: bool = True,
    checkpoint: str = "last",
    device: str | None = None,
    cache: bool = True,
    allow_leaks: bool = False,
    pool: str = MEAN,
    embedding: str = "published",
    chart: Path | None = None,
    progress: RunnerProgress | None = None,
) -> Evaluation:
    """Evaluate frozen encoders, of runs and external ones, on labelled clips.

    Args:
        encoders: run folders, and external encoders (:mod:`ssl_wb.encoder.external`).
        tasks: manifests with labels, or ``synthetic:scenes`` for those of the first run.
        evaluators: names of evaluators.
        settings: their options, each ``EVALUATOR.KEY=VALUE``.
        metrics: another metric for a task, each ``TASK=METRIC``.
        domains: another domain for a task, each ``TASK=DOMAIN``.
        baseline: row to compare the others with, by its name or its run folder.
        seeds: repetitions of each probe.
        untrained: evaluate the weights that each run started from too.
        baselines: evaluate plain log-mel statistics too.
        checkpoint: of runs, ``last`` or ``best``.
        device: where to compute; CUDA where there is one unless given.
        cache: keep embeddings, and use those kept by an earlier call.
        allow_leaks: accept tasks whose columns put clips of one recording on both sides of a split, with a note.
        pool: how the frames of a clip become one vector for probes of clips, alike for encoders and baselines: ``mean``
            (the papers' protocol), ``mean+std``, ``segments:N``, or ``auto``, chosen on validation clips.
        embedding: of a clip, by runs and imported encoders: ``published``, what their authors hand to a probe, or
            ``folded``, ``frames``, ``clip-token``, ``pooled``.
        chart: folder for pictures of what evaluators such as ``layers`` and ``spectrum`` leave.
        progress: called with what is being done, the clips done and their total.

    Raises:
        UsageError: an argument is not of its form or names nothing.
        PluginError: no such evaluator.
        RunFolderError: a folder is no run, or has no checkpoint yet.
        DataError: a manifest is wrong.
    """
    # Everything that was typed is checked before hours go into embedding.
    where = named_device(device)
    check_pool(pool)
    embedding_kind(embedding, "folded")
    if chart is not None:
        check_chart_folder(chart)
    probes = build_evaluators(evaluators, settings)
    names = encoder_names(encoders)
    reference = None
    if baseline is not None:
        reference = _baseline_row(
            baseline, names, untrained=untrained, log_mel=baseline_encoders(pool) if baselines else {}
        )
    failures: list[Exception] = []
    read = read_tasks(tasks, metrics, domains, names, allow_leaks=allow_leaks)
    for task in read:
        for warning in task_warnings(task):
            log.warning("task %s: %s", task.name, warning)
    rows = evaluate_runs(
        encoders,
        read,
        probes,
        range(seeds),
        with_untrained=untrained,
        with_baselines=baselines,
        reference=reference,
        checkpoint=checkpoint,
        device=where,
        keep=cache,
        pool=pool,
        embedding=embedding,
        progress=progress,
        failures=failures,
    )
    if reference is not None and all(row.encoder != reference for row in rows):
        reference = None  # it failed: the others are shown without differences
    return Evaluation(rows, reference, draw_probes(rows, chart) if chart is not None else [], failures)


def task_warnings(task: LoadedTask) -> list[str]:
    """Return a sentence for each thing about a task that a reader of its scores should know."""
    # A clip that cannot be read ends the task, with a message of its own.
    found = replace(check_sample(task.clips, seconds=QUICK), unreadable=[]).warnings()
    tested = len(np.unique(np.concatenate([split.test for split in task.splits])))
    if tested < FEW_TESTED:
        found.append(f"only {tested} clips are tested, so scores are uncertain: look at the intervals")
        if kind_of(task.labels) == "single":  # twice the standard error of a proportion of one half
            found[-1] += f" (an accuracy near 50 % has {100 / tested**0.5:.0f} points to either side)"
    return found


def _baseline_row(baseline: str, names: Mapping[str, str | Path], *, untrained: bool, log_mel: Iterable[str]) -> str:
    """Return the name of the row that ``baseline`` means.

    Raises:
        UsageError: there will be no such row.
    """
    runs = {name: source for name, source in names.items() if isinstance(source, Path)}
    rows = [*names, *(f"{name}, untrained" for name in runs if untrained), *log_mel]
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
    sources: Sequence[str | Path],
    metrics: Sequence[str] = (),
    domains: Sequence[str] = (),
    encoders: Mapping[str, str | Path] | None = None,
    *,
    allow_leaks: bool = False,
) -> list[LoadedTask]:
    """Read the tasks, each with the metric and the domain asked for it.

    Args:
        sources: manifests, or other places of labelled clips.
        metrics: each ``TASK=METRIC``.
        domains: each ``TASK=DOMAIN``.
        allow_leaks: as :func:`ssl_wb.tasks.task.load_task` takes it.
        encoders: by name; clips that are generated for a run are those of the first run among them.

    Raises:
        UsageError: a ``--metric`` or ``--domain`` is not of that form or names no task, or clips are generated and no
            run is given.
    """
    generated = [find_source(source).generates for source in sources]
    names = [Path(source).stem for source, made in zip(sources, generated, strict=True) if not made]
    metric = _by_task("--metric", "METRIC", metrics, names)
    domain = _by_task("--domain", "DOMAIN", domains, names)
    read = []
    for source, made in zip(sources, generated, strict=True):
        name = Path(source).stem
        if made:
            read.append(load_task(source, settings=_settings_of_run(source, encoders or {}), allow_leaks=allow_leaks))
        else:
            read.append(load_task(source, metric=metric.get(name), domain=domain.get(name), allow_leaks=allow_leaks))
    return read


def _by_task(flag: str, value: str, given: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Read several ``TASK=VALUE``."""
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


def _settings_of_run(place: str | Path, encoders: Mapping[str, str | Path]) -> SourceSettings:
    """Return the settings of the first run, whose folder holds the generated clips."""
    places = [source for source in encoders.values() if isinstance(source, Path)]
    runs = [place for place in places if RunFolder(place).is_run()]
    if places and not runs and not any(is_encoder_folder(one) or one.is_file() for one in places):
        RunFolder(places[0]).require_run()
    if not runs:
        raise UsageError(
            f"--task {place}: the {find_source(place).name} are those of a run, and none is given",
            hint="Give a run folder, too, or a manifest as the task.",
        )
    folder = RunFolder(runs[0])
    folder.require_run()
    return source_settings(load_recipe(folder.resolved, only=("front-end",)), folder.path)


def build_evaluators(names: Sequence[str], settings: Sequence[str] = ()) -> list[tuple[str, Evaluator]]:
    """Build evaluators with their options.

    Args:
        names: of evaluators; one named twice is built once.
        settings: each ``EVALUATOR.KEY=VALUE``.

    Raises:
        UsageError: settings that are not of that form or do not fit the evaluator's options, all at once.
        PluginError: no such evaluator.
    """
    names = list(dict.fromkeys(names))
    # A tree of values with their origins, as a recipe has: its checks name the setting that is wrong.
    tree = Tree(Path())
    tree.overlay((), {name: {} for name in names}, lambda _: Origin())
    mistakes: list[str] = []
    for setting in settings:
        key, equals, value = setting.partition("=")
        owner, _, option = key.strip().rpartition(".")
        if not equals or not option or owner not in names:
            mistakes.append(f"--set {setting}: expected EVALUATOR.KEY=VALUE, EVALUATOR one of {', '.join(names)}")
        else:
            tree.put((owner, option), parse_value(value), _from_setting(setting))
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


def _from_setting(setting: str) -> Callable[[Location], Origin]:
    """Return a function that names a ``--set`` as the origin of every part of its value."""
    return lambda location: Origin(override=setting)
