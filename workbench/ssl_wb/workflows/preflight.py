"""What a recipe reads and what it amounts to, found out once before hours of training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ssl_wb.audio.clip import ClipSet
from ssl_wb.data.augmenter import Augmenter
from ssl_wb.data.captions import CaptionCounts, check_captions
from ssl_wb.data.clips import SourceSettings, load_clips
from ssl_wb.encoder.folder import EncoderParts
from ssl_wb.encoder.initial import initial_encoder, initial_weights
from ssl_wb.errors import RecipeError, WorkbenchError
from ssl_wb.plugin.evaluator import EvaluatorSection
from ssl_wb.plugin.result_checks import unfit_reason
from ssl_wb.pretext.build import build_backbone
from ssl_wb.pretext.plan import Plan, make_plan
from ssl_wb.recipe.load import LoadedRecipe
from ssl_wb.runs.folder import RunFolder
from ssl_wb.tasks.task import LoadedTask, load_task
from ssl_wb.tasks.validation_subset import validation_subset

__all__ = ["Preflight", "check_contrast", "preflight", "source_settings"]


#: What tells the tasks of a recipe's probes apart: manifest, metric, whether leaks are allowed.
TaskKey = tuple[str, str | None, bool]


def _task_key(section: EvaluatorSection) -> TaskKey:
    return section.task, section.metric, section.allow_leaks


@dataclass
class Preflight:
    """What a recipe reads, and its plan.

    Attributes:
        loaded: the recipe.
        plan: sizes, operations, memory.
        clips: to train on; None where they are not chosen, or will be generated in the run's folder.
        planned: how many clips will be generated, where that is known.
        captions: how many there are; None where the recipe wants none.
        augmenter: the recipe's augmentations; None where it has none.
        initial: the encoder that the recipe starts from; None for random weights.
    """

    loaded: LoadedRecipe
    plan: Plan
    clips: ClipSet | None
    planned: int | None
    captions: CaptionCounts | None
    augmenter: Augmenter | None
    initial: EncoderParts | None = None
    _tasks: dict[TaskKey, LoadedTask] = field(default_factory=dict)
    _subsets: dict[tuple[str, str | None, bool, int], LoadedTask] = field(default_factory=dict)

    @property
    def count(self) -> int | None:
        """Number of clips to train on, as far as it is known."""
        return self.planned if self.clips is None else len(self.clips)

    @property
    def tasks(self) -> list[LoadedTask]:
        """Tasks of the recipe's probes, as far as they are read: a run generates some of their clips in its folder."""
        return list(self._tasks.values())

    def task(self, section: EvaluatorSection, folder: RunFolder) -> LoadedTask:
        """Return the task of a probe, whose clips are generated in ``folder`` where that is due."""
        key = _task_key(section)
        if key not in self._tasks:
            settings = source_settings(self.loaded, folder.path)
            self._tasks[key] = load_task(
                section.task, metric=section.metric, settings=settings, allow_leaks=section.allow_leaks
            )
        return self._tasks[key]

    def validation_subset(self, section: EvaluatorSection, folder: RunFolder) -> LoadedTask:
        """Return the clips of a task that probes during training use: no test clip is among them."""
        key = (*_task_key(section), section.every_clips)
        if key not in self._subsets:
            self._subsets[key] = validation_subset(self.task(section, folder), section.every_clips)
        return self._subsets[key]


def preflight(loaded: LoadedRecipe, *, resume: bool = False) -> Preflight:
    """Read the recipe's audio sources and tasks and make its plan, before anything is written.

    A resumed run has its weights, so the encoder that it once started from is not read again.

    Raises:
        RecipeError: one message for each source that is missing or wrong, for clips without captions that the recipe
            wants, for augmentations that cannot be, and for probes that cannot run during training; or parts of the
            model that do not fit each other.
    """
    clips = planned = captions = augmenter = None
    problems: list[str] = []
    data, settings = loaded.recipe.data, source_settings(loaded)
    if data.train is not None:
        try:
            source = settings.source(data.train)
            if source.generates:
                planned = source.planned_clips(data.train)
            else:
                clips = load_clips(data.train, settings)
        except WorkbenchError as error:
            problems.append(f"data.train: {error.message}")
    if data.captions is not None and data.train is not None and not problems:
        try:
            captions = check_captions(clips, data.captions)
        except WorkbenchError as error:
            problems.append(f"data.captions: {error.message}\n{error.hint}".replace("\n", "\n    "))
    if loaded.augmentations:
        try:
            augmenter = Augmenter(loaded.augmentations, loaded.front_end.options.sample_rate)
        except RecipeError as error:
            problems += error.problems
    problems += _contrast_problems(loaded)
    tasks: dict[TaskKey, LoadedTask] = {}
    subsets: dict[tuple[str, str | None, bool, int], LoadedTask] = {}
    problems += _read_tasks(loaded, tasks, subsets)
    if problems:
        raise RecipeError(problems, where=str(loaded.path), hint="--set KEY=PATH names another file or folder")
    initial = None if resume else initial_encoder(loaded)
    if initial is not None:
        initial_weights(initial, build_backbone(loaded), str(loaded.path))
    return Preflight(loaded, make_plan(loaded), clips, planned, captions, augmenter, initial, tasks, subsets)


def check_contrast(loaded: LoadedRecipe) -> None:
    """Refuse a recipe whose contrastive objectives see one clip at a time, on all processes together.

    Raises:
        RecipeError: one does; its loss would be 0 from the first step on, and nothing would be learnt.
    """
    if problems := _contrast_problems(loaded):
        raise RecipeError(problems, where=str(loaded.path))


def _contrast_problems(loaded: LoadedRecipe) -> list[str]:
    """Return a problem for each contrastive objective that has one clip for each loss, while that is known."""
    train = loaded.recipe.train
    # Gradient caching (micro_batch) has one loss over the whole batch, on any number of processes.
    clips = train.batch_size if train.micro_batch is not None else train.batch_size // int(train.passes())
    if train.searched == "accumulate" or clips > 1:
        return []
    key = "train.batch_size" if train.batch_size == 1 else "train.accumulate"
    value = train.batch_size if train.batch_size == 1 else train.accumulate
    return [
        f"{key} = {value}: objective {each.name!r} compares the clips of a pass with one another, and there is one, so "
        "its loss is always 0; set train.batch_size higher, or train.micro_batch in place of train.accumulate"
        for each in loaded.objectives
        if each.plugin.contrasts and each.settings.weight > 0
    ]


def _read_tasks(
    loaded: LoadedRecipe,
    tasks: dict[TaskKey, LoadedTask],
    subsets: dict[tuple[str, str | None, bool, int], LoadedTask],
) -> list[str]:
    """Read the tasks of a recipe's probes into ``tasks`` and ``subsets`` and return what is wrong with them."""
    problems: list[str] = []
    settings = source_settings(loaded)
    for number, selection in enumerate(loaded.evaluators):
        section = selection.settings
        if section.every is not None and selection.plugin.level == "audio":
            problems.append(
                f"evaluate.{number}.every: {selection.name!r} trains the encoder itself, which takes too long between "
                "two steps; leave 'every' out, and it runs after training"
            )
            continue
        key = _task_key(section)
        try:
            if settings.source(section.task).generates:
                continue
            if key not in tasks:
                tasks[key] = load_task(
                    section.task, metric=section.metric, settings=settings, allow_leaks=section.allow_leaks
                )
            if reason := unfit_reason(selection.build(), tasks[key].without_embeddings()):
                problems.append(f"evaluate.{selection.name}.task: {tasks[key].name}: {reason}")
                continue
            if section.every is not None:
                subsets[(*key, section.every_clips)] = validation_subset(tasks[key], section.every_clips)
        except WorkbenchError as error:
            problems.append(f"evaluate.{selection.name}.task: {error.message}")
    return problems


def source_settings(loaded: LoadedRecipe, run: Path | None = None) -> SourceSettings:
    """Return what a recipe and its run add to the places it names.

    Args:
        loaded: the recipe.
        run: the run's folder; None before there is one.
    """
    return SourceSettings(loaded.sources, run, loaded.front_end.options.sample_rate)
