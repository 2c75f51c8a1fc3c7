"""What has to be there before a recipe is worth starting: its clips, its captions, its tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_wb.audio.clip import ClipSet
from ssl_wb.data.augmenter import Augmenter
from ssl_wb.data.captions import check_captions
from ssl_wb.data.clips import SourceSettings, load_clips
from ssl_wb.errors import RecipeError, WorkbenchError
from ssl_wb.plugin.registry import load_registry
from ssl_wb.tasks.task import LoadedTask, load_task
from ssl_wb.tasks.validation_subset import validation_subset

if TYPE_CHECKING:
    from ssl_wb.recipe.load import LoadedRecipe

__all__ = ["Sources", "check_sources", "source_settings"]


@dataclass
class Sources:
    """What a recipe reads.

    Attributes:
        clips: to train on; None where they are not chosen, or will be generated in the run's folder.
        planned: how many will be generated, where that is known.
        augment: the recipe's augmentations; None where it has none.
        tasks: of its probes, by place and metric, without those whose clips will be generated.
    """

    clips: ClipSet | None = None
    planned: int | None = None
    augment: Augmenter | None = None
    tasks: dict[tuple[str, str | None], LoadedTask] = field(default_factory=dict)

    @property
    def count(self) -> int | None:
        """Number of clips to train on, as far as it is known."""
        return self.planned if self.clips is None else len(self.clips)


def check_sources(loaded: LoadedRecipe) -> Sources:
    """Read the recipe's audio sources and tasks, so that what is missing is said before hours of training.

    Raises:
        RecipeError: one message for each source that is missing or wrong, for clips without captions that the recipe
            wants, for augmentations that cannot be, and for probes that cannot run while it trains.
    """
    found = Sources()
    problems: list[str] = []
    data, settings = loaded.recipe.data, source_settings(loaded)
    if data.train is not None:
        try:
            source = settings.source(data.train)
            if source.generates:
                found.planned = source.planned_clips(data.train)
            else:
                found.clips = load_clips(data.train, settings)
        except WorkbenchError as error:
            problems.append(f"data.train: {error.message}")
    if data.captions is not None and data.train is not None and not problems:
        try:
            check_captions(found.clips, data.captions)
        except WorkbenchError as error:
            problems.append(f"data.captions: {error.message}\n{error.hint}".replace("\n", "\n    "))
    try:
        augment = Augmenter(data.augment, loaded.recipe.front_end.sample_rate)
        found.augment = augment if data.augment else None
    except RecipeError as error:
        problems += error.problems
    problems += _read_tasks(loaded, found.tasks)
    if problems:
        raise RecipeError(problems, where=str(loaded.path), hint="--set KEY=PATH names another file or folder")
    return found


def _read_tasks(loaded: LoadedRecipe, tasks: dict[tuple[str, str | None], LoadedTask]) -> list[str]:
    """Read the tasks of a recipe's probes into ``tasks`` and return what is wrong with them."""
    problems: list[str] = []
    for number, chosen in enumerate(loaded.evaluators):
        section = chosen.section
        if section.every is not None and chosen.plugin.level == "audio":
            problems.append(
                f"evaluate.{number}.every: {chosen.name!r} trains the encoder itself, which is too long between two "
                "steps; leave 'every' out, and it runs after training"
            )
            continue
        key = section.task, section.metric
        settings = source_settings(loaded)
        try:
            if settings.source(section.task).generates:
                continue
            if key not in tasks:
                tasks[key] = load_task(section.task, metric=section.metric, settings=settings)
            if section.every is not None:
                validation_subset(tasks[key], section.every_clips)
        except WorkbenchError as error:
            problems.append(f"evaluate.{chosen.name}.task: {error.message}")
    return problems


def source_settings(loaded: LoadedRecipe, run: Path | None = None) -> SourceSettings:
    """Return what a recipe and its run add to the places it names.

    Args:
        loaded: the recipe.
        run: the run's folder; None before there is one.
    """
    kind = load_registry().get("source", "scenes")
    options = {"scenes": kind.Options(**loaded.recipe.data.scenes.model_dump())}
    return SourceSettings(options, run, loaded.recipe.front_end.sample_rate)
