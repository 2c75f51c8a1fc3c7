"""Format ``onnx``: one file with the whole computation, waveform in, embedding out, for onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_wb.encoder.formats.base import Export, ExportFormat, ExportOptions
from ssl_wb.encoder.formats.portable import check_agreement
from ssl_wb.encoder.formats.torch_export import INPUTS, OUTPUTS, exported_program, quietly

__all__ = ["OnnxFormat"]

FILE = "model.onnx"
#: Version of the operators; onnxruntime has them since 1.14.
OPSET = 18


class OnnxFormat(ExportFormat):
    """A file for onnxruntime; the front end's Fourier transform is a convolution in it."""

    name = "onnx"
    summary = "onnxruntime, without torch and without Python code"
    runtime = "onnxruntime"
    libraries = {"onnx": "ssl-wb[export]", "onnxscript": "ssl-wb[export]", "onnxruntime": "ssl-wb[export]"}

    def write(self, export: Export) -> list[str]:
        """Write ``model.onnx`` and compare what onnxruntime computes with the encoder."""
        program = exported_program(self.name, export.parts, export.encoder)
        with quietly():
            written = torch.onnx.export(
                program, input_names=list(INPUTS), output_names=list(OUTPUTS), opset_version=OPSET, verbose=False
            )
            assert written is not None
            told = {"sample_rate": export.encoder.sample_rate, "hop_seconds": export.encoder.hop_seconds}
            written.model.metadata_props.update({name: str(value) for name, value in told.items()})
            written.save(export.folder / FILE)
        check_agreement(self.name, export.encoder, _Session(export.folder / FILE))
        return []

    def usage(self, config: Mapping[str, Any], options: ExportOptions) -> list[str]:
        """Return the lines that a user needs."""
        return [
            "```python",
            "import onnxruntime",
            "",
            f'session = onnxruntime.InferenceSession("FOLDER/{FILE}")',
            'embedding, frames = session.run(None, {"waveform": waveform, "lengths": lengths})',
            "# float32 [B, S] and int64 [B], the samples of each clip -> [B, D], [B, T, d]",
            "```",
        ]


class _Session(torch.nn.Module):
    """A file in onnxruntime, called with tensors."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        import onnxruntime

        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def forward(self, waveform: Tensor, lengths: Tensor) -> list[Tensor]:
        """Map ``[B, S]`` and ``[B]`` to embeddings ``[B, D]`` and frames ``[B, T, d]``."""
        found = self.session.run(None, {"waveform": waveform.numpy(), "lengths": lengths.numpy()})
        return [torch.from_numpy(values) for values in found]
