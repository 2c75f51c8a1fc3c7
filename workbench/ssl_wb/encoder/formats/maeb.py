"""Format ``maeb``: a model class for the audio tasks of mteb."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from ssl_wb.encoder.formats.base import Export, ExportFormat, ExportOptions, write_code
from ssl_wb.encoder.formats.conformance import load_file, maeb_faults, refuse

__all__ = ["MaebFormat"]


class MaebFormat(ExportFormat):
    """A file with a model class, its metadata and a function that loads it."""

    name = "maeb"
    summary = "mteb's audio tasks (MAEB): a file `maeb_model.py` with model class and metadata"
    runtime = "ssl-wb, mteb"

    def write(self, export: Export) -> list[str]:
        """Write ``maeb_model.py`` and check it where mteb is installed."""
        write_code(export.folder, "maeb_model.py")
        if importlib.util.find_spec("mteb") is None:
            return ["maeb_model.py was not tried when it was written: mteb was not installed."]
        refuse(maeb_faults(load_file(export.folder / "maeb_model.py").load_model(device="cpu")), "model for mteb")
        return []

    def usage(self, config: Mapping[str, Any], options: ExportOptions) -> list[str]:
        """Return the lines that a user needs."""
        return [
            "```python",
            "import mteb",
            "from maeb_model import load_model                  # with FOLDER on the module search path",
            "",
            'mteb.evaluate(load_model(), mteb.get_tasks(modalities=["audio"]))',
            "```",
        ]
