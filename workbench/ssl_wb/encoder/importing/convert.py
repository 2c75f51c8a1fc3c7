"""From a published checkpoint to an encoder: which system it is of, and its importer's mapping, checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.folder import EncoderParts
from ssl_wb.encoder.importing.files import file_digest, read_checkpoint, without_prefix
from ssl_wb.encoder.importing.hub import fetch, is_hub
from ssl_wb.errors import DataError, UsageError
from ssl_wb.plugin.checkpoint_tensors import TensorFate
from ssl_wb.plugin.importer import Checkpoint, ImportedEncoder, Importer
from ssl_wb.plugin.registry import Registry, load_registry

__all__ = ["Import", "import_checkpoint", "importer_of", "variants"]

#: Prefixes that wrappers put before every name of an encoder: DDP, EVAR and its fine-tuned files, runtimes, Lightning.
PREFIXES = ("module.", "ar.runtime.backbone.", "backbone.", "model.", "encoder.", "net.")
#: Most prefixes that are removed one after the other.
NESTED = 4


@dataclass(frozen=True)
class Import:
    """An imported checkpoint.

    Attributes:
        parts: what the encoder is, with its source.
        encoder: built of them.
        tensors: what became of each tensor of the file.
    """

    parts: EncoderParts
    encoder: FrozenEncoder
    tensors: Sequence[TensorFate]

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            **self.parts.about,
            "published": self.parts.published,
            "tensors": [one.as_json() for one in self.tensors],
        }


def variants(checkpoint: Checkpoint) -> Iterator[Checkpoint]:
    """Yield a checkpoint as it is, then without prefixes of wrappers, fewer removed first."""
    level = [checkpoint]
    for _ in range(NESTED):
        yield from level
        shorter = [without_prefix(one, prefix) for one in level for prefix in PREFIXES]
        level = [one for one in shorter if one is not None]


def importer_of(checkpoint: Checkpoint, registry: Registry, system: str = "auto") -> tuple[type[Importer], Checkpoint]:
    """Find the importer of a checkpoint.

    Args:
        checkpoint: as read.
        registry: the plugins.
        system: name of an importer; "auto" asks each whether it recognises the tensors.

    Returns:
        The importer, and the checkpoint without prefixes of wrappers.

    Raises:
        PluginError: no importer has the name.
        DataError: none recognises the checkpoint, or two do.
    """
    if system != "auto":
        chosen = cast(type[Importer], registry.get("importer", system))
        return chosen, next((one for one in variants(checkpoint) if chosen.recognises(one)), checkpoint)
    importers = cast("list[type[Importer]]", registry.classes("importer"))
    for one in variants(checkpoint):
        found = [importer for importer in importers if importer.recognises(one)]
        first = max((importer.specificity for importer in found), default=0)
        found = [importer for importer in found if importer.specificity == first]
        if len(found) > 1:
            names = ", ".join(importer.name for importer in found)
            raise DataError(f"{checkpoint.where}: may be of {names}", hint="say which with --system NAME")
        if found:
            return found[0], one
    raise DataError(
        f"{checkpoint.where}: no importer recognises its tensors, as {', '.join(list(checkpoint.tensors)[:3])}",
        hint=f"systems: {', '.join(registry.names('importer'))}; --system NAME says what such a file lacks",
    )


def import_checkpoint(source: str | Path, system: str = "auto", settings: Mapping[str, Any] | None = None) -> Import:
    """Read a published checkpoint as an encoder.

    Args:
        source: a file, a folder with one, or a place of the hub, ``hf://OWNER/NAME[/FILE][@REVISION]``.
        system: name of an importer, or "auto".
        settings: options of the importer.

    Raises:
        UsageError: there is no such file or repository, or an option does not fit.
        DataError: the file cannot be read, is of no known system, or a tensor is missing, unknown or misshapen.
    """
    place, revision = fetch(str(source)) if is_hub(source) else (Path(source), None)
    checkpoint, file = read_checkpoint(place)
    importer, checkpoint = importer_of(checkpoint, load_registry(), system)
    try:
        options = importer.Options.model_validate(dict(settings or {}))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"--set {'.'.join(map(str, first['loc']))}: {first['msg']}",
            hint=f"`ssl-wb describe importer {importer.name}` lists what can be set",
        ) from error
    tensors = checkpoint.account()
    imported = importer(options).read(checkpoint, tensors)
    fates = tensors.finish()
    about = {
        "system": importer.name,
        "source": {
            # Of a local file its name alone: the folder may be published, and paths are private.
            "place": str(source) if is_hub(source) else file.name,
            "file": file.name,
            "revision": revision,
            "sha256": file_digest(file),
        },
        "notes": list(imported.notes),
    }
    parts = _parts(imported, about)
    return Import(parts, parts.build(str(file)), fates)


def _parts(imported: ImportedEncoder, about: Mapping[str, Any]) -> EncoderParts:
    """Return an imported encoder as the parts of an encoder folder."""
    weights = dict(imported.weights)
    for name, head in imported.heads.items():
        weights |= {f"heads.{name}.{key}": value for key, value in head.weights.items()}
    return EncoderParts(
        imported.front_end,
        imported.backbone,
        imported.frames,
        imported.reading,
        imported.published,
        imported.fine_tuned or imported.published,
        weights,
        imported.heads,
        about,
    )
