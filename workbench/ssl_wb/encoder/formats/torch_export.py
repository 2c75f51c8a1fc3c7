"""Format ``torch-export``: one file with the whole computation, waveform in, embedding out, which torch alone runs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ssl_wb.encoder.carried.portable import PortableEncoder
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.folder import EncoderParts
from ssl_wb.encoder.formats.base import Export, ExportFormat, ExportOptions
from ssl_wb.encoder.formats.portable import check_agreement, portable_encoder
from ssl_wb.errors import UsageError

__all__ = ["INPUTS", "OUTPUTS", "TorchExportFormat", "exported_program", "quietly"]

#: Names of what goes in and comes out.
INPUTS, OUTPUTS = ("waveform", "lengths"), ("embedding", "frames")
#: Most clips and samples at once.
MOST_CLIPS, MOST_SAMPLES = 2**16, 2**31
FILE = "model.pt2"


class _Outputs(nn.Module):
    """The encoder with tensors for outputs."""

    def __init__(self, encoder: PortableEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[B, S]`` and ``[B]`` to embeddings ``[B, D]`` and frames ``[B, T, d]``."""
        found = self.encoder(waveform, lengths)
        return found.embedding, found.frames


@contextmanager
def quietly() -> Iterator[None]:
    """Keep back what the exporters say about their own work."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def exported_program(target: str, parts: EncoderParts, encoder: FrozenEncoder) -> torch.export.ExportedProgram:
    """Return the computation for any number of clips of any length.

    Args:
        target: name of the format, for messages.
        parts: what the encoder is.
        encoder: built of them.

    Raises:
        UsageError: the portable code does not have its front end or backbone, or torch cannot export it.
        DataError: the portable code computes something else.
    """
    model = _Outputs(portable_encoder(target, parts, encoder)).eval()
    with torch.no_grad():
        model(torch.zeros(1, 1), torch.ones(1, dtype=torch.int64))  # makes the constants, before tensors are symbols
    samples = 2 * encoder.sample_rate
    example = (torch.zeros(2, samples), torch.tensor([samples, samples // 2]))
    batch = torch.export.Dim("batch", min=1, max=MOST_CLIPS)
    length = torch.export.Dim("samples", min=1, max=MOST_SAMPLES)
    shapes = {"waveform": {0: batch, 1: length}, "lengths": {0: batch}}
    try:
        with torch.no_grad(), quietly():
            return torch.export.export(model, example, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch raises many types
        reason = " ".join(str(error).split())[:300]
        raise UsageError(
            f"--for {target}: torch {torch.__version__} cannot export this encoder ({type(error).__name__}: {reason})",
            hint="take another format, or another torch",
        ) from error


class TorchExportFormat(ExportFormat):
    """A file for ``torch.export.load``."""

    name = "torch-export"
    summary = "torch without Python code: `torch.export.load`, AOTInductor, ExecuTorch"
    runtime = "torch"

    def write(self, export: Export) -> list[str]:
        """Write ``model.pt2`` and compare what it computes with the encoder."""
        program = exported_program(self.name, export.parts, export.encoder)
        with quietly():
            torch.export.save(program, export.folder / FILE)
            check_agreement(self.name, export.encoder, torch.export.load(export.folder / FILE).module())
        return []

    def usage(self, config: Mapping[str, Any], options: ExportOptions) -> list[str]:
        """Return the lines that a user needs."""
        return [
            "```python",
            "import torch",
            "",
            f'model = torch.export.load("FOLDER/{FILE}").module()',
            "embedding, frames = model(waveform, lengths)       # float32 [B, S], int64 [B] -> [B, D], [B, T, d]",
            "```",
        ]
