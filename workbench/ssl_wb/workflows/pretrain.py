"""One run, from recipe to checkpoints and results."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from accelerate import Accelerator
from safetensors.torch import save_file

from ssl_wb.audio.clip import ClipSet
from ssl_wb.data.checks import data_warnings
from ssl_wb.data.clips import load_clips
from ssl_wb.data.identity import check_identity, describe_identity
from ssl_wb.data.loader import check_batch
from ssl_wb.data.statistics import measure
from ssl_wb.encoder.folder import EncoderParts
from ssl_wb.encoder.initial import initial_weights, start_from
from ssl_wb.errors import RunFolderError, UsageError
from ssl_wb.evaluation.results import Row
from ssl_wb.files import write_atomically, written_aside
from ssl_wb.plugin.registry import load_registry
from ssl_wb.pretext.build import build_model
from ssl_wb.pretext.model import PretextModel
from ssl_wb.recipe.load import LoadedRecipe, load_recipe, require_data, resolved, to_toml
from ssl_wb.runs.device import best_device, mixed_precision
from ssl_wb.runs.environment import describe_environment
from ssl_wb.runs.folder import RunFolder
from ssl_wb.runs.sharding import check_strategy
from ssl_wb.training.auto_micro_batch import find_passes
from ssl_wb.training.crops import build_crops
from ssl_wb.training.engine import build_accelerator
from ssl_wb.training.kernels import attention_choice, check_kernels
from ssl_wb.training.launch import check_world
from ssl_wb.training.loop import Trainer
from ssl_wb.training.reporting import reporter_for
from ssl_wb.training.schedule import LearningRate, total_steps
from ssl_wb.workflows.final_probes import run_final_probes
from ssl_wb.workflows.online_probes import online_probes
from ssl_wb.workflows.preflight import Preflight, check_contrast, preflight, source_settings
from ssl_wb.workflows.resume_check import check_overrides, warn_of_other_recipe
from ssl_wb.workflows.schedule_check import schedule_warnings

__all__ = ["PretrainedRun", "default_run_folder", "pretrain", "train"]

log = logging.getLogger("ssl_wb")


def default_run_folder(recipe: str | Path) -> Path:
    """Return ``runs/NAME`` below the working directory, NAME the recipe's file name."""
    return Path("runs") / Path(recipe).stem


@dataclass(frozen=True)
class PretrainedRun:
    """A finished run: its folder, and a row for each of its final probes (on the main process)."""

    folder: Path
    rows: list[Row]
    main_process: bool = True


def train(
    recipe: str | Path,
    *,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    resume: bool | Literal["auto"] = False,
    overwrite: bool = False,
    quiet: bool = False,
    cpu: bool = False,
    processes: int | None = None,
    max_hours: float | None = None,
    strict: bool = False,
) -> Path:
    """Pre-train an encoder and run the recipe's probes, as :func:`pretrain`, and return the run folder."""
    return pretrain(
        recipe,
        overrides=overrides,
        out=out,
        resume=resume,
        overwrite=overwrite,
        quiet=quiet,
        cpu=cpu,
        processes=processes,
        max_hours=max_hours,
        strict=strict,
    ).folder


# More than fifty lines, most of them the arguments and their description.
def pretrain(
    recipe: str | Path,
    *,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    resume: bool | Literal["auto"] = False,
    overwrite: bool = False,
    quiet: bool = False,
    cpu: bool = False,
    processes: int | None = None,
    baselines: bool = True,
    max_hours: float | None = None,
    strict: bool = False,
) -> PretrainedRun:
    """Pre-train an encoder, then run the recipe's probes and write ``results.json``.

    Args:
        recipe: a recipe file, or the name of a shipped one.
        overrides: ``key.path=value`` settings, applied after the file.
        out: the run folder; ``runs/NAME`` when None.
        resume: go on with the run in the folder, with the recipe it was started with; "auto" starts one where none is.
        overwrite: throw away a run that is there.
        quiet: no progress on stderr.
        cpu: stay on the CPU where a GPU is at hand.
        processes: required number of processes on all machines; any number when None.
        baselines: let the recipe's probes also score the untrained encoder and log-mel statistics.
        max_hours: stop with a checkpoint at the end of the step in which so many hours are over; None for no limit.
        strict: stop at the first clip that cannot be read, whatever ``data.max_bad`` is.

    Raises:
        RecipeError: mistakes in the recipe.
        RunFolderError: the folder is taken, another process writes it, or there is nothing to resume.
        UsageError: another number of processes than was asked for, a strategy that this machine cannot serve, or not
            enough memory for a single clip.
        DivergedError: losses or gradients are no longer finite.
        UnreadableDataError: too many clips cannot be read.
        InterruptedRunError: the run was asked to stop and can be resumed.
    """
    until = None if max_hours is None else time.monotonic() + _seconds(max_hours)
    folder = RunFolder(Path(out) if out is not None else default_run_folder(recipe))
    loaded, resume = _open(folder, recipe, overrides, resume=resume, overwrite=overwrite)
    require_data(loaded)
    # Everything that can be wrong is found before anything is written, or thrown away. A run that was killed before its
    # first checkpoint starts again from the weights that its recipe names.
    checked = preflight(loaded, resume=resume and folder.has_checkpoint())
    train_section, device = loaded.recipe.train, best_device(cpu=cpu)
    accelerator = build_accelerator(
        mixed_precision(train_section.precision, device),
        device,
        strategy=train_section.strategy,
        trackers=train_section.trackers,
        folder=folder.path,
    )
    _check_machine(loaded, accelerator, processes)
    loaded = find_passes(loaded, checked.plan, accelerator)
    check_contrast(loaded)
    try:
        _fill(folder, loaded, accelerator, resume=resume, overwrite=overwrite)
        if train_section.trackers:
            accelerator.init_trackers("metrics")
        trainer = _trainer(loaded, folder, checked, accelerator, quiet=quiet, resume=resume, until=until, strict=strict)
        if resume:
            trainer.resume()
        trainer.fit()
        accelerator.end_training()
        main = accelerator.is_main_process
        rows = run_final_probes(loaded, checked, folder, device, quiet=quiet, baselines=baselines) if main else []
        return PretrainedRun(folder.path, rows, main)
    finally:
        folder.lock.release()


def _seconds(hours: float) -> float:
    """Return ``--max-hours`` in seconds; UsageError where it is no positive number."""
    if not (math.isfinite(hours) and hours > 0):
        raise UsageError(f"--max-hours {hours:g} is no time to train", hint="give hours above 0, such as 23.5")
    return 3600.0 * hours


def _open(
    folder: RunFolder,
    recipe: str | Path,
    overrides: Sequence[str],
    *,
    resume: bool | Literal["auto"],
    overwrite: bool,
) -> tuple[LoadedRecipe, bool]:
    """Check the folder and return the recipe, the run's own where it is resumed, and whether it is."""
    if resume == "auto":
        if overwrite:
            raise UsageError("--auto-resume keeps the run and --overwrite throws it away", hint="give one of the two")
        folder.lock.wait()
        # All processes see the same: none of them fills the folder before all have come here.
        resume = folder.is_run()
    folder.check(resume=resume, overwrite=overwrite)
    if not resume:
        return load_recipe(recipe, overrides), False
    loaded = load_recipe(folder.resolved)
    check_overrides(overrides, loaded, folder)
    warn_of_other_recipe(recipe, loaded, folder)
    return loaded, True


def _check_machine(loaded: LoadedRecipe, accelerator: Accelerator, processes: int | None) -> None:
    """Refuse a number of processes, a strategy, a batch or kernels that this machine cannot give."""
    section, world = loaded.recipe.train, accelerator.num_processes
    check_world(world, processes)
    check_strategy(section.strategy, accelerator.distributed_type.value)
    check_batch(section.batch_size, world, section.passes(world))
    check_kernels(loaded, accelerator)


def _fill(folder: RunFolder, loaded: LoadedRecipe, accelerator: Accelerator, *, resume: bool, overwrite: bool) -> None:
    """Make the run folder, or prepare to continue in it."""
    accelerator.wait_for_everyone()  # all have checked the folder before one of them fills it
    if accelerator.is_main_process:
        folder.prepare(resume=resume, overwrite=overwrite)
        _record(folder, loaded, accelerator, resume=resume)
    accelerator.wait_for_everyone()


def _record(folder: RunFolder, loaded: LoadedRecipe, accelerator: Accelerator, *, resume: bool) -> None:
    """Write recipe and environment; a resumed run adds its own environment."""
    environment = describe_environment(
        device=accelerator.device,
        processes=accelerator.num_processes,
        strategy=loaded.recipe.train.strategy,
        precision=accelerator.mixed_precision,
        seed=loaded.recipe.seed,
        registry=load_registry(),
        attention=attention_choice(loaded.backbone.options),
    )
    if resume:
        try:
            before = json.loads(folder.environment.read_text(encoding="utf-8"))
            before.setdefault("resumed", []).append(environment)
        except (OSError, ValueError, AttributeError) as error:
            log.warning("%s: cannot be read (%s); it is written anew", folder.environment, error)
            before = {"resumed": [environment]}
        folder.write_json(folder.environment, before)
        return
    write_atomically(folder.recipe, loaded.source)
    environment["recipe"] = {"path": str(loaded.path), "overrides": list(loaded.overrides)}
    folder.write_json(folder.environment, environment)
    # Last, because its presence makes the folder a run that can be resumed.
    write_atomically(folder.resolved, to_toml(resolved(loaded)))


def _trainer(
    loaded: LoadedRecipe,
    folder: RunFolder,
    checked: Preflight,
    accelerator: Accelerator,
    *,
    quiet: bool,
    resume: bool,
    until: float | None = None,
    strict: bool = False,
) -> Trainer:
    """Put data, front end, model and probes together."""
    recipe, clips = loaded.recipe, checked.clips
    if clips is None:
        with accelerator.main_process_first():  # one process generates the clips, the others find them written
            clips = load_clips(require_data(loaded), source_settings(loaded, folder.path))
    steps = total_steps(recipe.train, len(clips))
    if resume and (folder.data.is_file() or folder.has_checkpoint()):
        check_identity(clips, folder.data)
    elif accelerator.is_main_process:
        folder.write_json(folder.data, describe_identity(clips))
    model = build_model(loaded, steps)
    _start(model, checked, folder, write=accelerator.is_main_process)
    # The main process measures, embeds captions and writes; the others find its files.
    with accelerator.main_process_first():
        dataset = build_crops(loaded, clips, model, checked.augmenter)
        statistics = _statistics(folder, loaded, clips, dataset.samples, checked.initial)
    if accelerator.is_main_process:
        _announce(loaded, checked, clips, model, steps, statistics, resume=resume)
    front_end = loaded.front_end.build(statistics["mean"], statistics["std"])
    with accelerator.main_process_first():  # clips of a task may be generated, too
        probes = online_probes(checked, folder, front_end, accelerator.device, steps)
    return Trainer(
        recipe=recipe,
        optimizer=loaded.optimizer,
        learning_rate=LearningRate(loaded.optimizer.options, loaded.recipe.train, loaded.schedule.build()),
        folder=folder,
        model=model,
        front_end=front_end,
        dataset=dataset,
        accelerator=accelerator,
        reporter=reporter_for(main_process=accelerator.is_main_process, quiet=quiet),
        steps=steps,
        probes=probes,
        until=until,
        strict=strict,
    )


def _announce(
    loaded: LoadedRecipe,
    checked: Preflight,
    clips: ClipSet,
    model: PretextModel,
    steps: int,
    statistics: dict[str, Any],
    *,
    resume: bool,
) -> None:
    """Log what is trained on what, and warn of schedules and clips that look wrong."""
    log.info(
        "%d clips; %d steps of %d clips; %.2f M trained parameters; log-mel mean %.3f, std %.3f",
        len(clips),
        steps,
        loaded.recipe.train.batch_size,
        sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6,
        statistics["mean"],
        statistics["std"],
    )
    found = [] if resume or checked.clips is None else data_warnings(clips)  # generated clips are sound
    for warning in [*schedule_warnings(loaded, steps, has_teacher=model.teacher_trunk is not None), *found]:
        log.warning(warning)


def _start(model: PretextModel, checked: Preflight, folder: RunFolder, *, write: bool) -> None:
    """Give the model the weights of the recipe's ``[init]``, and keep them in the run folder."""
    if checked.initial is None:  # also where a run is resumed: its checkpoint has the weights
        return
    weights = initial_weights(checked.initial, model.backbone, str(checked.loaded.path))
    start_from(model, weights)
    if write:
        with written_aside(folder.initial) as aside:
            save_file({name: value.contiguous() for name, value in weights.items()}, aside)


def _statistics(
    folder: RunFolder, loaded: LoadedRecipe, clips: ClipSet, samples: int, initial: EncoderParts | None
) -> dict[str, Any]:
    """Return the normalisation statistics: of the run folder, the initial encoder, the recipe, or measured ones."""
    if folder.statistics.is_file():
        try:
            kept: dict[str, Any] = json.loads(folder.statistics.read_text(encoding="utf-8"))
            return kept
        except (OSError, json.JSONDecodeError) as error:
            raise RunFolderError(f"{folder.statistics}: cannot be read ({error})", hint="start a new run") from error
    front_end = loaded.front_end.options
    values: dict[str, Any]
    if initial is not None:
        values = {"mean": initial.front_end["mean"], "std": initial.front_end["std"], "source": "init"}
    elif front_end.mean is not None and front_end.std is not None:
        values = {"mean": front_end.mean, "std": front_end.std, "source": "recipe"}
    else:
        values = asdict(measure(clips, loaded.front_end.build(), samples)) | {"source": "measured"}
    folder.write_json(folder.statistics, values)
    return values
