"""Make encoder folders: import a published checkpoint, export a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssl_wb.encoder.card import card_of, run_sections
from ssl_wb.encoder.folder import CONFIG, EncoderParts, is_encoder_folder, write_folder
from ssl_wb.encoder.importing.convert import Import, import_checkpoint
from ssl_wb.encoder.load import encoder_parts
from ssl_wb.errors import UsageError
from ssl_wb.files import why_not_writable, written_aside
from ssl_wb.recipe.overrides import parse_value
from ssl_wb.runs.folder import RunFolder

__all__ = ["EXPORTS", "REPORT", "export_run", "import_encoder", "importer_settings"]

#: Formats that a run is exported to.
EXPORTS = ("encoder",)
#: File of an imported encoder that tells what became of each tensor.
REPORT = "import.json"
#: File of an exported run that holds its resolved recipe. Not the name in a run folder, which this is not.
RECIPE = "recipe.toml"


def import_encoder(
    source: str,
    out: Path,
    *,
    system: str = "auto",
    settings: Mapping[str, Any] | None = None,
    licence: str | None = None,
    overwrite: bool = False,
) -> Import:
    """Import a published checkpoint and write it as an encoder folder.

    Args:
        source: a file, a folder with one, or ``hf://OWNER/NAME[/FILE][@REVISION]``.
        out: folder to write.
        system: name of an importer; "auto" recognises the system by names and shapes of tensors.
        settings: options of the importer.
        licence: of the weights, for the model card.
        overwrite: replace an encoder folder.

    Returns:
        What was imported, with an account of every tensor.

    Raises:
        UsageError: ``out`` is taken or cannot be written, or there is no such source.
        DataError: the file cannot be read, or a tensor does not fit.
    """
    _check_out(out, overwrite)
    imported = import_checkpoint(source, system, settings)
    title = f"{imported.parts.about['system']}, imported from {imported.parts.about['source']['file']}"
    report = json.dumps(imported.as_json(), indent=2, ensure_ascii=False) + "\n"
    with _written(out) as folder:
        write_folder(folder, imported.parts, imported.encoder)
        (folder / REPORT).write_text(report, encoding="utf-8")
        _write_card(folder, title, licence)
    return imported


def export_run(
    run: Path,
    out: Path,
    *,
    target: str = "encoder",
    checkpoint: str = "last",
    licence: str | None = None,
    overwrite: bool = False,
) -> EncoderParts:
    """Export the encoder of a run as an encoder folder, which needs neither the run nor its data.

    Args:
        run: the run folder.
        out: folder to write.
        target: the format, one of :data:`EXPORTS`.
        checkpoint: ``last``, ``best`` or the name of one.
        licence: of the weights, for the model card.
        overwrite: replace an encoder folder.

    Returns:
        What the encoder is.

    Raises:
        UsageError: ``out`` is taken or cannot be written, or the format is not known.
        RunFolderError: ``run`` is no run folder, or has no such checkpoint.
    """
    if target not in EXPORTS:
        raise UsageError(f"--for {target}: no such format", hint=f"formats: {', '.join(EXPORTS)}")
    _check_out(out, overwrite)
    parts = encoder_parts(run, checkpoint=checkpoint)
    encoder = parts.build(str(run))
    folder = RunFolder(run)
    with _written(out) as aside:
        write_folder(aside, parts, encoder)
        shutil.copyfile(folder.resolved, aside / RECIPE)
        _write_card(aside, str(parts.about.get("title") or run.name), licence, run_sections(folder))
    return parts


def importer_settings(given: Sequence[str]) -> dict[str, Any]:
    """Read options of an importer, each ``KEY=VALUE`` with a value as in TOML.

    Raises:
        UsageError: one is of another form.
    """
    settings: dict[str, Any] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key.strip().isidentifier():
            raise UsageError(f"--set {one}: expected KEY=VALUE", hint="as --set heads=12")
        settings[key.strip()] = parse_value(value)
    return settings


def _write_card(folder: Path, title: str, licence: str | None, sections: list[str] | None = None) -> None:
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / "README.md").write_text(card_of(config, title, licence, sections or []), encoding="utf-8")


def _check_out(out: Path, overwrite: bool) -> None:
    """Check that the folder can be written, before the work starts."""
    taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if taken and not (overwrite and is_encoder_folder(out)):
        known = is_encoder_folder(out)
        hint = (
            "--overwrite replaces it" if known else "this is no encoder folder and will not be replaced: name another"
        )
        raise UsageError(f"{out} is already there", hint=hint)
    if fault := why_not_writable(out.parent):
        raise UsageError(f"{out}: cannot be written ({fault})", hint="name another folder with --out")


@contextmanager
def _written(out: Path) -> Iterator[Path]:
    """Yield a new folder that becomes ``out`` when it is whole; what stood there is removed just before."""
    with written_aside(out) as aside:
        aside.mkdir()
        yield aside
        if out.exists():
            shutil.rmtree(out)
