"""``ssl-wb train``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ssl_wb.cli import completion
from ssl_wb.cli.arguments import Settings

__all__ = ["train"]


# More than fifty lines, most of them the options and their help.
def train(
    context: typer.Context,
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="Recipe file, or the name of a shipped recipe; none with --extend.", autocompletion=completion.recipes
        ),
    ] = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME unless given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    auto_resume: Annotated[
        bool,
        typer.Option("--auto-resume", help="Start the run, or go on with it where it was started before."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Throw away the run in the folder.")] = False,
    extend: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Go on with a run that has ended, to --set train.steps=N in all, in a new folder."
        ),
    ] = None,
    max_hours: Annotated[
        float | None,
        typer.Option(metavar="H", help="Stop with a checkpoint and exit code 75 when H hours are over."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first clip that cannot be read, with exit code 5.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="Stay on the CPU.")] = False,
    baselines: Annotated[
        bool, typer.Option(help="Let the recipe's probes score the untrained encoder and log-mel statistics, too.")
    ] = True,
    processes: Annotated[
        int | None, typer.Option(metavar="N", help="Processes on each machine, one for each GPU; 1 unless given.")
    ] = None,
    machines: Annotated[
        int, typer.Option(metavar="M", help="Machines of the run; they share the folder and see the same data.")
    ] = 1,
    rank: Annotated[int, typer.Option(metavar="R", help="Number of this machine, from 0.")] = 0,
    main_address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where the processes of all machines meet: on machine 0.")
    ] = None,
) -> None:
    """Pre-train an encoder, then run the recipe's probes and print their table.

    With --processes the run is launched through Accelerate. `accelerate launch -m ssl_wb train ...` and
    `torchrun -m ssl_wb train ...` work too; --processes then says how many there have to be.
    """
    from ssl_wb.training.launch import Machines, is_launched, launch, run_recorded

    _check_words(recipe, extend, resume=resume or auto_resume or overwrite)
    place = Machines(1 if processes is None else processes, machines, rank, main_address)
    if place.world > 1 and not is_launched():
        _check_devices(place.processes, cpu=cpu)
        launch(context.find_root().obj, place)  # every process gets the command line as it was typed
        return

    def run() -> None:
        from ssl_wb.report.tables import print_table
        from ssl_wb.workflows.extend import extend as extend_run
        from ssl_wb.workflows.pretrain import pretrain

        folder = out if extend is None else extend_run(extend, settings or (), out)
        trained = pretrain(
            recipe if recipe is not None else f"{folder}/recipe.toml",
            overrides=(settings or ()) if extend is None else (),
            out=folder,
            resume="auto" if auto_resume or extend is not None else resume,
            overwrite=overwrite,
            quiet=quiet,
            cpu=cpu,
            baselines=baselines,
            processes=place.world if processes is not None or machines > 1 else None,
            max_hours=max_hours,
            strict=strict,
        )
        if trained.rows:
            print_table(trained.rows)
        if trained.main_process:
            quoted = shlex.quote(str(trained.folder))
            typer.echo(f"run folder: {trained.folder}", err=True)
            typer.echo(f"next: ssl-wb evaluate {quoted} --task MANIFEST.csv", err=True)
            typer.echo(f"  or: ssl-wb embed {quoted} FOLDER --out embeddings.npz", err=True)

    run_recorded(run)


def _check_words(recipe: str | None, extend: Path | None, *, resume: bool) -> None:
    """Refuse a command without a recipe, and words that --extend leaves no place for."""
    from ssl_wb.errors import UsageError

    if extend is None and recipe is None:
        raise UsageError("no recipe is named", hint="ssl-wb train RECIPE, or ssl-wb train --extend RUN")
    if extend is not None and (recipe is not None or resume):
        words = "a recipe" if recipe is not None else "--resume, --auto-resume or --overwrite"
        raise UsageError(
            f"--extend goes on with the recipe of {extend}; {words} does not go with it",
            hint="ssl-wb train --extend RUN --set train.steps=N",
        )


def _check_devices(processes: int, *, cpu: bool) -> None:
    """Refuse more processes than GPUs where the GPUs train; UsageError names both numbers."""
    import torch

    from ssl_wb.errors import UsageError

    devices = 0 if cpu or not torch.cuda.is_available() else torch.cuda.device_count()
    if 0 < devices < processes:
        raise UsageError(
            f"{processes} processes were asked for and there {'is' if devices == 1 else 'are'} {devices} "
            f"GPU{'' if devices == 1 else 's'}: each process needs one of its own",
            hint=f"--processes {devices}, or --cpu to stay off the GPU",
        )
