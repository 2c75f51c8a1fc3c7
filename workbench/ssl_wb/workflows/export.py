"""Export an encoder: the folder, the format's files, the model card, and the way to the hub."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssl_wb.encoder.card import Usage, card_of, carried_sections, run_sections
from ssl_wb.encoder.folder import CONFIG, EncoderParts, write_folder
from ssl_wb.encoder.formats.base import Export, ExportOptions
from ssl_wb.encoder.formats.table import format_named
from ssl_wb.encoder.load import encoder_parts
from ssl_wb.errors import UsageError
from ssl_wb.runs.folder import RunFolder
from ssl_wb.workflows.card_pictures import draw_training
from ssl_wb.workflows.encoder_folders import REPORT, check_out, written_folder
from ssl_wb.workflows.push import check_repository, push_folder

__all__ = ["Exported", "export_encoder"]

#: File of an exported run that holds its resolved recipe. Not the name in a run folder, which this is not.
RECIPE = "recipe.toml"
#: Picture of the run's training.
CURVES = "training.png"


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        parts: what the encoder is.
        files: names of the files in the folder.
        notes: what a user has to know about the encoder in this format.
        address: of the commit on the hub, where it was uploaded.
    """

    parts: EncoderParts
    files: list[str]
    notes: list[str]
    address: str | None = None


# More than fifty lines, most of them the arguments and their description.
def export_encoder(
    source: str | Path,
    out: Path,
    *,
    target: str = "encoder",
    options: ExportOptions | None = None,
    checkpoint: str = "last",
    licence: str | None = None,
    overwrite: bool = False,
    push: str | None = None,
    public: bool = False,
) -> Exported:
    """Export an encoder as a folder that needs neither the run nor its data.

    Args:
        source: a run folder; or an encoder folder, a published checkpoint or ``hf://OWNER/NAME[@REVISION]``.
        out: folder to write.
        target: the format, one of :data:`ssl_wb.encoder.formats.table.FORMATS`.
        options: choices of the format.
        checkpoint: of a run: ``last``, ``best`` or the name of one.
        licence: of the weights, for the model card; that of an exported encoder folder unless given.
        overwrite: replace an encoder folder.
        push: OWNER/NAME on the Hugging Face hub to upload the folder to.
        public: make a new repository there public instead of private.

    Returns:
        What was written.

    Raises:
        UsageError: ``out`` is taken or cannot be written, there is no such format, a library for it is missing, or it
            cannot hold this encoder; or the hub cannot be reached or refuses the folder, which stays then.
        RunFolderError: a run has no such checkpoint, or a file is damaged.
        DataError: the format's files do not do what the format promises.
    """
    options = options or ExportOptions()
    chosen = format_named(target)
    defaults = ExportOptions()
    for name in vars(defaults):
        if getattr(options, name) != getattr(defaults, name) and name not in chosen.options:
            raise UsageError(f"--{name.replace('_', '-')}: is not an option of --for {target}", hint="leave it out")
    if push is not None:
        check_repository(push)
    elif public:
        raise UsageError("--public: is about --push", hint="add --push OWNER/NAME, or leave it out")
    chosen.check(options)
    chosen.require()
    check_out(out, overwrite)
    if Path(source).absolute() == out.absolute():
        raise UsageError(f"{out}: is the encoder itself", hint="name another folder with --out")
    parts = encoder_parts(source, checkpoint=checkpoint)
    licence = licence or parts.about.get("licence")
    parts = replace(parts, about={**parts.about, **({"licence": licence} if licence else {})})
    encoder = parts.build(str(source))
    chosen.suitable(parts, encoder)
    with written_folder(out) as aside:
        write_folder(aside, parts, encoder)
        notes = chosen.write(Export(aside, parts, encoder, options))
        sections = _from_source(Path(source), aside)
        config: dict[str, Any] = json.loads((aside / CONFIG).read_text(encoding="utf-8"))
        title = str(parts.about.get("title") or parts.about.get("system") or Path(source).name)
        usage = Usage(chosen.name, chosen.runtime, chosen.usage(config, options), notes)
        (aside / "README.md").write_text(card_of(config, title, licence, sections, usage), encoding="utf-8")
        files = sorted(path.relative_to(aside).as_posix() for path in aside.rglob("*") if path.is_file())
    address = None if push is None else push_folder(out, push, public=public)
    return Exported(parts, files, notes, address)


def _from_source(source: Path, folder: Path) -> list[str]:
    """Copy what the source knows of its training into the folder; return the sections of the card about it."""
    run = RunFolder(source)
    if run.is_run():
        shutil.copyfile(run.resolved, folder / RECIPE)
        drawn = draw_training(run, folder / CURVES)
        return run_sections(run, picture=CURVES if drawn else None)
    for name in (RECIPE, REPORT, CURVES):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    card = source / "README.md"
    return carried_sections(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else []
