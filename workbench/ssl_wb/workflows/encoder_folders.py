"""Import a published checkpoint as an encoder folder; what import and export share of writing one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssl_wb.encoder.card import card_of
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.folder import CONFIG, EncoderParts, is_encoder_folder, write_folder
from ssl_wb.encoder.importing.convert import Import, import_checkpoint
from ssl_wb.errors import UsageError
from ssl_wb.files import why_not_writable, written_aside
from ssl_wb.recipe.overrides import parse_value

__all__ = ["REPORT", "check_out", "import_encoder", "importer_settings", "write_with_card", "written_folder"]

#: File of an imported encoder that tells what became of each tensor.
REPORT = "import.json"


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
    check_out(out, overwrite)
    imported = import_checkpoint(source, system, settings)
    title = f"{imported.parts.about['system']}, imported from {imported.parts.about['source']['file']}"
    report = json.dumps(imported.as_json(), indent=2, ensure_ascii=False) + "\n"
    with written_folder(out) as folder:
        write_with_card(folder, imported.parts, imported.encoder, title, licence)
        (folder / REPORT).write_text(report, encoding="utf-8")
    return imported


def write_with_card(folder: Path, parts: EncoderParts, encoder: FrozenEncoder, title: str, licence: str | None) -> None:
    """Write an encoder and its model card, without sections of a run.

    Args:
        folder: an empty folder.
        parts: the encoder.
        encoder: built of them.
        title: of the card.
        licence: of the weights; None where it is not known.
    """
    write_folder(folder, parts, encoder)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / "README.md").write_text(card_of(config, title, licence), encoding="utf-8")


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


def check_out(out: Path, overwrite: bool) -> None:
    """Check that an encoder folder can be written, before the work starts.

    Raises:
        UsageError: it is taken by something else or may not be replaced, or cannot be written.
    """
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
def written_folder(out: Path) -> Iterator[Path]:
    """Yield a new folder that becomes ``out`` when it is whole; what stood there is removed just before."""
    with written_aside(out) as aside:
        aside.mkdir()
        yield aside
        if out.exists():
            shutil.rmtree(out)
