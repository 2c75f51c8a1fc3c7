"""Format ``projector``: audio tokens for a language model, by a connector that is still to be trained."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from ssl_wb.encoder.formats.base import Export, ExportFormat, ExportOptions, write_code
from ssl_wb.errors import UsageError

__all__ = ["ProjectorFormat"]

#: Tokens per second and their width, unless chosen: those of LTU.
RATE, WIDTH = 3.2, 4096


class ProjectorFormat(ExportFormat):
    """The frozen encoder with rows averaged and frames stacked, and a connector behind it."""

    name = "projector"
    summary = "audio-language models: tokens at a chosen rate, and a connector to train"
    runtime = "ssl-wb"
    options = ("frame_rate", "width")

    def check(self, options: ExportOptions) -> None:
        """Check rate and width.

        Raises:
            UsageError: one is not above 0.
        """
        for name, value in (("--frame-rate", options.frame_rate), ("--width", options.width)):
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} {value:g}: has to be above 0", hint="as --frame-rate 3.2 --width 4096")

    def write(self, export: Export) -> list[str]:
        """Write ``connector.json``, the code and the example."""
        rate, width = export.options.frame_rate or RATE, export.options.width or WIDTH
        own = 1.0 / export.encoder.hop_seconds
        stack = max(1, math.ceil(own / rate - 1e-9))  # rounding must not cost a whole frame
        settings = {"stack": stack, "width": width, "tokens_per_second": own / stack}
        (export.folder / "connector.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        write_code(export.folder, "connector.py", "train_connector.py")
        code = export.folder / "train_connector.py"  # a script: its neighbour is no part of a package
        code.write_text(code.read_text(encoding="utf-8").replace("from .connector", "from connector"), encoding="utf-8")
        notes = ["The connector's weights are random until it is trained: train_connector.py is an example."]
        if rate > own:
            notes.append(f"The encoder has {own:g} frames per second, and so many tokens; {rate:g} cannot be had.")
        return notes

    def usage(self, config: Mapping[str, Any], options: ExportOptions) -> list[str]:
        """Return the lines that a user needs."""
        return [
            "```python",
            "from connector import AudioTokens                  # with FOLDER on the module search path",
            "",
            "model = AudioTokens()",
            "tokens, own = model(waveform, lengths)             # [B, N, width], and which belong to a clip [B, N]",
            "```",
            "",
            "```sh",
            "python FOLDER/train_connector.py CLIPS.csv         # columns path and caption",
            "```",
        ]
