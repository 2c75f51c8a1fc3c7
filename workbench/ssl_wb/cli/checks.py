"""What has to be there before a recipe is worth starting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl_wb.data.clips import ClipSet
    from ssl_wb.evaluate.tasks import LoadedTask
    from ssl_wb.recipe.load import LoadedRecipe
    from ssl_wb.train.run_folder import RunFolder

__all__ = ["check_sources", "scenes_task"]


def check_sources(loaded: LoadedRecipe) -> tuple[ClipSet | None, dict[str, LoadedTask]]:
    """Read the recipe's audio sources and tasks, so that what is missing is said before hours of training.

    Returns:
        The training clips (None when they are not chosen or synthetic) and the tasks by source (synthetic ones not).

    Raises:
        RecipeError: one message for each source that is missing or wrong, for clips without captions that the recipe
            wants, and for augmentations that cannot be.
    """
    from ssl_wb.audio.augment import Augmenter
    from ssl_wb.data.captions import check_captions
    from ssl_wb.data.clips import load_clips
    from ssl_wb.errors import RecipeError, WorkbenchError
    from ssl_wb.evaluate.tasks import load_task
    from ssl_wb.recipe.schema import SYNTHETIC

    problems: list[str] = []
    clips = None
    tasks: dict[str, LoadedTask] = {}
    data = loaded.recipe.data
    if data.train is not None and data.train != SYNTHETIC:
        try:
            clips = load_clips(data.train)
        except WorkbenchError as error:
            problems.append(f"data.train: {error.message}")
    if data.captions is not None and data.train is not None and not problems:
        try:
            check_captions(clips, data.captions)
        except WorkbenchError as error:
            problems.append(f"data.captions: {error.message}\n{error.hint}".replace("\n", "\n    "))
    try:
        Augmenter(data.augment, loaded.recipe.front_end.sample_rate)
    except RecipeError as error:
        problems += error.problems
    for chosen in loaded.evaluators:
        if chosen.task == SYNTHETIC or chosen.task in tasks:
            continue
        try:
            tasks[chosen.task] = load_task(Path(chosen.task))
        except WorkbenchError as error:
            problems.append(f"evaluate.{chosen.name}.task: {error.message}")
    if problems:
        raise RecipeError(problems, where=str(loaded.path), hint="--set KEY=PATH names another file or folder")
    return clips, tasks


def scenes_task(loaded: LoadedRecipe, folder: RunFolder) -> LoadedTask:
    """Return a run's synthetic scenes as a task, writing them where they are not there yet."""
    from ssl_wb.evaluate.tasks import load_task
    from ssl_wb.train.run import scenes_of

    return load_task(scenes_of(loaded, folder), name="sound scenes")
