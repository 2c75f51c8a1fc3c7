"""What an export format is."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ssl_wb.encoder import carried
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.folder import EncoderParts
from ssl_wb.errors import UsageError

__all__ = ["Export", "ExportFormat", "ExportOptions", "carried_code", "write_code"]

#: Imports of the workbench in carried code, and what they are in an exported folder.
PUBLIC = {
    "from ssl_wb.encoder.load import load_encoder": "from ssl_wb import load_encoder",
    "from ssl_wb.encoder.carried.": "from .",
}


@dataclass(frozen=True)
class ExportOptions:
    """What a user may choose of a format; a format ignores what is not its own.

    Attributes:
        self_contained: ``transformers``: write code that needs no ssl-wb.
        frame_rate: ``projector``: most tokens per second; None for 3.2.
        width: ``projector``: width of a token, that of the language model's embeddings; None for 4096.
    """

    self_contained: bool = False
    frame_rate: float | None = None
    width: int | None = None


@dataclass(frozen=True)
class Export:
    """An encoder on its way into a folder.

    Attributes:
        folder: where it is written; ``config.json`` and ``model.safetensors`` are there already.
        parts: the encoder in plain values.
        encoder: built of them.
        options: what the user chose.
    """

    folder: Path
    parts: EncoderParts
    encoder: FrozenEncoder
    options: ExportOptions = field(default_factory=ExportOptions)


class ExportFormat(ABC):
    """Writes what one runtime needs into an encoder folder.

    Attributes:
        name: word for ``--for``.
        summary: what it is for, in one line.
        runtime: what a user of the folder has to install.
        libraries: modules that exporting needs besides ssl-wb, each with the package that has it.
        options: names of the :class:`ExportOptions` that it reads.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    runtime: ClassVar[str]
    libraries: ClassVar[Mapping[str, str]] = {}
    options: ClassVar[Sequence[str]] = ()

    def require(self) -> None:
        """Check that exporting is possible here, before the work starts.

        Raises:
            UsageError: a library is missing.
        """
        for module, install in self.libraries.items():
            if importlib.util.find_spec(module) is None:
                raise UsageError(f"--for {self.name}: this needs {module}", hint=f"pip install '{install}'")

    def check(self, options: ExportOptions) -> None:
        """Check what the user chose, before the work starts.

        Raises:
            UsageError: a value cannot be.
        """
        del options

    def suitable(self, parts: EncoderParts, encoder: FrozenEncoder) -> None:
        """Check that the format can hold an encoder, before anything is written.

        Raises:
            UsageError: it cannot.
        """
        del parts, encoder

    @abstractmethod
    def write(self, export: Export) -> list[str]:
        """Write the format's files into the folder.

        Returns:
            What a user has to know about this encoder in this format.

        Raises:
            DataError: what was written does not do what the format promises.
        """

    @abstractmethod
    def usage(self, config: Mapping[str, Any], options: ExportOptions) -> list[str]:
        """Return the lines of Python or shell that a user of the folder needs, as a fenced block for the card."""


def carried_code(name: str) -> str:
    """Return the text of a file of carried code, as it stands in an exported folder.

    Args:
        name: of the file in ``ssl_wb/encoder/carried``.
    """
    text = (Path(carried.__path__[0]) / name).read_text(encoding="utf-8")
    for inside, outside in PUBLIC.items():
        text = text.replace(inside, outside)
    return text


def write_code(folder: Path, *names: str) -> None:
    """Write files of carried code into a folder."""
    for name in names:
        (folder / name).write_text(carried_code(name), encoding="utf-8")
