"""What has to be there before a recipe is worth starting: its clips, its captions, its tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_wb.audio.clip import ClipSet
from ssl_wb.data.augmenter import Augmenter
from ssl_wb.data.captions import check_captions
from ssl_wb.data.clips import load_clips
from ssl_wb.data.scenes import write_scenes
from ssl_wb.errors import RecipeError, WorkbenchError
from ssl_wb.recipe.schema import SYNTHETIC
from ssl_wb.tasks.task import LoadedTask, load_task
from ssl_wb.tasks.validation_subset import validation_subset

if TYPE_CHECKING:
    from ssl_wb.recipe.load import LoadedRecipe
    from ssl_wb.recipe.schema import EvaluateSection
    from ssl_wb.runs.folder import RunFolder

__all__ = ["Sources", "check_sources", "scenes_of", "scenes_task"]


@dataclass
class Sources:
    """What a recipe reads.

    Attributes:
        clips: to train on; None where they are not chosen, or synthetic.
        augment: the recipe's augmentations; None where it has none.
        tasks: of its probes, by source and metric; synthetic ones not.
    """

    clips: ClipSet | None = None
    augment: Augmenter | None = None
    tasks: dict[tuple[str, str | None], LoadedTask] = field(default_factory=dict)


def check_sources(loaded: LoadedRecipe) -> Sources:
    """Read the recipe's audio sources and tasks, so that what is missing is said before hours of training.

    Raises:
        RecipeError: one message for each source that is missing or wrong, for clips without captions that the recipe
            wants, for augmentations that cannot be, and for probes that cannot run while it trains.
    """
    found = Sources()
    problems: list[str] = []
    data = loaded.recipe.data
    if data.train is not None and data.train != SYNTHETIC:
        try:
            found.clips = load_clips(data.train)
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
        if section.task == SYNTHETIC:
            continue
        key = section.task, section.metric
        try:
            if key not in tasks:
                tasks[key] = load_task(Path(section.task), metric=section.metric)
            if section.every is not None:
                validation_subset(tasks[key], section.every_clips)
        except WorkbenchError as error:
            problems.append(f"evaluate.{chosen.name}.task: {error.message}")
    return problems


def scenes_of(loaded: LoadedRecipe, folder: RunFolder) -> Path:
    """Return the manifest of a run's synthetic scenes, writing them where they are not there yet."""
    return write_scenes(folder.path / "scenes", loaded.recipe.data.scenes, loaded.recipe.front_end.sample_rate)


def scenes_task(loaded: LoadedRecipe, folder: RunFolder, section: EvaluateSection | None = None) -> LoadedTask:
    """Return a run's synthetic scenes as a task, writing them where they are not there yet."""
    return load_task(
        scenes_of(loaded, folder), name="sound scenes", metric=section.metric if section is not None else None
    )
