"""Format ``encoder``: the folder that ssl-wb itself reads; every other format is this folder and more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_wb.encoder.card import OWN_USE
from ssl_wb.encoder.formats.base import Export, ExportFormat, ExportOptions

__all__ = ["PlainFormat"]


class PlainFormat(ExportFormat):
    """The encoder folder alone."""

    name = "encoder"
    summary = "ssl-wb itself: `load_encoder`, `embed`, `evaluate`, `[init] from`"
    runtime = "ssl-wb"

    def write(self, export: Export) -> list[str]:
        """Write nothing more."""
        return []

    def usage(self, config: Mapping[str, Any], options: ExportOptions) -> list[str]:
        """Return the lines that a user needs."""
        return list(OWN_USE)
