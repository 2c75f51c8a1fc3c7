"""The checks of an importer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch

from ssl_wb.encoder.importing.convert import variants
from ssl_wb.encoder.importing.files import read_checkpoint
from ssl_wb.errors import DataError
from ssl_wb.plugin.contract_checks import refuse
from ssl_wb.plugin.importer import Checkpoint, ImportedEncoder, Importer
from ssl_wb.plugin.registry import load_registry
from ssl_wb.testing.checks import Checks, Subject
from ssl_wb.testing.options_checks import common_checks

__all__ = ["CHECKS", "check_importer"]

#: Names that no system has.
OTHERS = {"generator.layers.0.weight": torch.zeros(3, 3), "discriminator.bias": torch.zeros(3)}

CHECKS: Checks[_Importer] = Checks("importer", common_checks())


@dataclass(frozen=True)
class _Importer(Subject[Importer]):
    """An importer under test, and a checkpoint of its system where the caller gives one."""

    place: Path | None = None

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint, without prefixes of wrappers."""
        assert self.place is not None
        checkpoint, _ = read_checkpoint(self.place)
        found = next((one for one in variants(checkpoint) if self.plugin.recognises(one)), None)
        if found is None:
            refuse(self.plugin, "recognise the checkpoints of its system", f"False for {self.place.name}")
        return found

    def read(self, checkpoint: Checkpoint) -> ImportedEncoder:
        """Map a checkpoint as ``ssl-wb import`` does: every tensor has to be accounted for."""
        tensors = checkpoint.account()
        imported = self.build().read(checkpoint, tensors)
        tensors.finish()
        return imported


def check_importer(
    plugin: type[Importer],
    options: Mapping[str, Any] | None = None,
    *,
    checkpoint: str | Path | None = None,
    skip: Collection[str] = (),
) -> None:
    """Hold an importer to its contract.

    Args:
        plugin: the class.
        options: options that differ from their defaults.
        checkpoint: file or folder of a small checkpoint of its system; without it none is read.
        skip: names of checks to leave out.

    Raises:
        ContractError: the first check that fails.
    """
    CHECKS.run(_Importer(plugin, options or {}, Path(checkpoint) if checkpoint is not None else None), skip)


@CHECKS
def others(subject: _Importer) -> None:
    """``recognises`` returns True or False, and False for files of other systems."""
    for checkpoint in (Checkpoint({}), Checkpoint(OTHERS), Checkpoint(OTHERS, {"config": {"model_type": "other"}})):
        answer = subject.plugin.recognises(checkpoint)
        if not isinstance(answer, bool):
            refuse(subject.plugin, "return True or False from recognises", repr(answer))
        if answer:
            refuse(subject.plugin, "leave files of other systems to their importers", "True for another system")


@CHECKS
def every_tensor(subject: _Importer) -> None:
    """Every tensor of its file is taken, or left over with a reason; a file with one more or one less is refused."""
    if subject.place is None:
        return
    checkpoint = subject.checkpoint
    tensors = checkpoint.account()
    subject.build().read(checkpoint, tensors)
    used = [one.name for one in tensors.finish() if one.fate == "used"]
    if not used:
        refuse(subject.plugin, "take tensors of the file", "none is used")
    names = {checkpoint.original.get(name, name): name for name in checkpoint.tensors}
    less = {name: value for name, value in checkpoint.tensors.items() if name != names[used[-1]]}
    for what, changed in (
        ("one more tensor", {**checkpoint.tensors, "zzz.unknown": torch.zeros(2)}),
        (f"no {used[-1]}", less),
    ):
        try:
            subject.read(replace(checkpoint, tensors=changed))
        except DataError:
            continue
        refuse(subject.plugin, "account for every tensor: leave() those alone that it knows", f"a file with {what}")


@CHECKS
def encoder(subject: _Importer) -> None:
    """Front end and backbone exist and take the options, and the backbone takes the weights, all of them."""
    if subject.place is None:
        return
    imported, registry = subject.read(subject.checkpoint), load_registry()
    front_end = _options(registry.get("front-end", str(imported.front_end["name"])), imported.front_end)
    kind = registry.get("backbone", str(imported.backbone["name"]))
    backbone: Any = cast(Any, kind)(_options(kind, imported.backbone), front_end.n_mels, imported.frames)
    backbone.load_state_dict(dict(imported.weights))


def _options(plugin: type[Any], section: Mapping[str, Any]) -> Any:
    return plugin.Options.model_validate({key: value for key, value in section.items() if key != "name"})
