"""The table of export formats. A new one is a file beside this and a row here."""

from __future__ import annotations

from ssl_wb.encoder.formats.base import ExportFormat
from ssl_wb.encoder.formats.hear import HearFormat
from ssl_wb.encoder.formats.huggingface import TransformersFormat
from ssl_wb.encoder.formats.maeb import MaebFormat
from ssl_wb.encoder.formats.onnx import OnnxFormat
from ssl_wb.encoder.formats.plain import PlainFormat
from ssl_wb.encoder.formats.projector import ProjectorFormat
from ssl_wb.encoder.formats.torch_export import TorchExportFormat
from ssl_wb.encoder.formats.xares import XaresFormat
from ssl_wb.errors import UsageError, did_you_mean

__all__ = ["FORMATS", "format_named"]

#: Formats by the word for ``--for``, in the order in which pages list them.
FORMATS: dict[str, ExportFormat] = {
    one.name: one
    for one in (
        PlainFormat(),
        HearFormat(),
        XaresFormat(),
        MaebFormat(),
        TransformersFormat(),
        OnnxFormat(),
        TorchExportFormat(),
        ProjectorFormat(),
    )
}


def format_named(name: str) -> ExportFormat:
    """Return the format of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in FORMATS:
        raise UsageError(
            f"--for {name}: no such format{did_you_mean(name, FORMATS)}", hint=f"formats: {', '.join(FORMATS)}"
        )
    return FORMATS[name]
