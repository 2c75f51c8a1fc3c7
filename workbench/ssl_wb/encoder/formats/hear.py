"""Format ``hear``: a module with the common API of HEAR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.folder import EncoderParts
from ssl_wb.encoder.formats.base import Export, ExportFormat, ExportOptions, write_code
from ssl_wb.encoder.formats.conformance import HEAR_RATES, hear_faults, load_file, refuse
from ssl_wb.errors import UsageError

__all__ = ["HearFormat"]

#: Hop in ms up to which HEAR advises timestamps, for its transcription task.
ADVISED_HOP = 50.0


class HearFormat(ExportFormat):
    """An importable module that passes hear-validator's checks."""

    name = "hear"
    summary = "HEAR's tasks: an importable module `hear_encoder`"
    runtime = "ssl-wb"

    def suitable(self, parts: EncoderParts, encoder: FrozenEncoder) -> None:
        """Check the sample rate.

        Raises:
            UsageError: it is none of HEAR's.
        """
        if encoder.sample_rate not in HEAR_RATES:
            rates = ", ".join(map(str, HEAR_RATES))
            raise UsageError(
                f"--for hear: the encoder wants {encoder.sample_rate} Hz, and HEAR has {rates}",
                hint="take another format: --for encoder",
            )

    def write(self, export: Export) -> list[str]:
        """Write ``hear_encoder.py`` and check it."""
        write_code(export.folder, "hear_encoder.py")
        refuse(hear_faults(load_file(export.folder / "hear_encoder.py")), "HEAR module")
        notes = []
        if (hop := 1000 * export.encoder.hop_seconds) > ADVISED_HOP:
            notes.append(f"HEAR advises a timestamp every {ADVISED_HOP:g} ms at least; this encoder has {hop:g} ms.")
        if export.encoder.sample_rate == 32000:
            notes.append("hear-validator 2021.0.2 does not know 32,000 Hz, which HEAR's text allows.")
        return notes

    def usage(self, config: Mapping[str, Any], options: ExportOptions) -> list[str]:
        """Return the lines that a user needs."""
        return [
            "```python",
            "import hear_encoder                                # with FOLDER on the module search path",
            "",
            "model = hear_encoder.load_model()",
            "scenes = hear_encoder.get_scene_embeddings(audio, model)               # [B, S] -> [B, D]",
            "frames, ms = hear_encoder.get_timestamp_embeddings(audio, model)       # [B, T, D], [B, T]",
            "```",
        ]
