"""``ssl-wb import`` and ``ssl-wb export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ssl_wb.cli.output import JsonFlag, echo_json

__all__ = ["Format", "export_encoder", "import_encoder"]


class Format(StrEnum):
    """What an export is for."""

    ENCODER = "encoder"
    HEAR = "hear"
    XARES = "xares"
    MAEB = "maeb"
    TRANSFORMERS = "transformers"
    ONNX = "onnx"
    TORCH_EXPORT = "torch-export"
    PROJECTOR = "projector"


Licence = Annotated[str | None, typer.Option("--licence", help="Licence of the weights, for the model card.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it holds an encoder.")]


def import_encoder(
    source: Annotated[
        str, typer.Argument(help="Checkpoint file, folder with one, or hf://OWNER/NAME[/FILE][@REVISION].")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    system: Annotated[str, typer.Option(help="Importer; auto recognises the system by its tensors.")] = "auto",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Option of the importer; may be repeated.")
    ] = None,
    licence: Licence = None,
    overwrite: Overwrite = False,
    as_json: Annotated[bool, JsonFlag] = False,
) -> None:
    """Read a published checkpoint as an encoder, every tensor accounted for; no code of it is run."""
    from ssl_wb.workflows.encoder_folders import REPORT, importer_settings
    from ssl_wb.workflows.encoder_folders import import_encoder as run_import

    found = run_import(
        source, out, system=system, settings=importer_settings(settings or []), licence=licence, overwrite=overwrite
    )
    if as_json:
        echo_json(found.as_json())
    used = sum(one.fate != "left over" for one in found.tensors)
    left: dict[str, int] = {}
    for one in found.tensors:
        if one.fate == "left over":
            left[one.why] = left.get(one.why, 0) + 1
    about = found.parts.about
    typer.echo(f"{about['system']}: {used} of {len(found.tensors)} tensors used", err=True)
    for why, count in left.items():
        typer.echo(f"left over: {count}, {why}", err=True)
    for note in about["notes"]:
        typer.echo(f"note: {note}", err=True)
    encoder = found.encoder
    typer.echo(
        f"{out}: {encoder.sample_rate} Hz, published embedding {encoder.published} of {encoder.clip_dim} values, "
        f"a frame every {1000 * encoder.hop_seconds:g} ms; {REPORT} names every tensor",
        err=True,
    )


def export_encoder(
    source: Annotated[
        str, typer.Argument(metavar="ENCODER", help="Run folder, encoder folder, checkpoint or hf://OWNER/NAME.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    target: Annotated[Format, typer.Option("--for", help="Format.")] = Format.ENCODER,
    checkpoint: Annotated[str, typer.Option(help="Checkpoint of a run: last, best or step-NUMBER.")] = "last",
    self_contained: Annotated[
        bool, typer.Option("--self-contained", help="transformers: bring code that needs no ssl-wb.")
    ] = False,
    frame_rate: Annotated[
        float | None, typer.Option(help="projector: most tokens per second; 3.2 unless given.")
    ] = None,
    width: Annotated[int | None, typer.Option(help="projector: width of a token; 4096 unless given.")] = None,
    licence: Licence = None,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload the folder to the Hugging Face hub.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="--push: a new repository is public, not private.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write an encoder as a folder for use elsewhere, which needs neither the run nor its data."""
    from ssl_wb.encoder.formats.base import ExportOptions
    from ssl_wb.workflows.export import export_encoder as run_export

    options = ExportOptions(self_contained=self_contained, frame_rate=frame_rate, width=width)
    found = run_export(
        source,
        out,
        target=target.value,
        options=options,
        checkpoint=checkpoint,
        licence=licence,
        overwrite=overwrite,
        push=push,
        public=public,
    )
    parts = found.parts
    typer.echo(
        f"{out}: {parts.backbone['name']} behind {parts.front_end['name']}, published embedding {parts.published}",
        err=True,
    )
    typer.echo(f"files: {', '.join(found.files)}", err=True)
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    if found.address is not None:
        typer.echo(f"uploaded: {found.address}", err=True)
