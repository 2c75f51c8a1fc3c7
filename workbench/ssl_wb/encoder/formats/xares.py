"""Format ``xares``: a file with an encoder class for X-ARES."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_wb.encoder.formats.base import Export, ExportFormat, ExportOptions, write_code
from ssl_wb.encoder.formats.conformance import load_file, refuse, xares_faults

__all__ = ["XaresFormat"]


class XaresFormat(ExportFormat):
    """A file that X-ARES runs."""

    name = "xares"
    summary = "X-ARES' tasks: a file `xares_encoder.py` with the class `SslWbEncoder`"
    runtime = "ssl-wb"

    def write(self, export: Export) -> list[str]:
        """Write ``xares_encoder.py`` and check it."""
        write_code(export.folder, "xares_encoder.py")
        module = load_file(export.folder / "xares_encoder.py")
        refuse(xares_faults(module.SslWbEncoder()), "X-ARES encoder")
        return ["X-ARES reads frames: its tasks pool them, whatever the published embedding is."]

    def usage(self, config: Mapping[str, Any], options: ExportOptions) -> list[str]:
        """Return the lines that a user needs."""
        return [
            "```sh",
            "python -m xares.run --max-jobs 8 FOLDER/xares_encoder.py src/tasks/*.py    # in a checkout of X-ARES",
            "```",
        ]
