"""Format ``transformers``: a folder for ``AutoModel`` and ``AutoFeatureExtractor``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.folder import CONFIG, EncoderParts
from ssl_wb.encoder.formats.base import Export, ExportFormat, ExportOptions, write_code
from ssl_wb.encoder.formats.portable import portable_encoder

__all__ = ["TransformersFormat"]

#: Files of a folder that needs no ssl-wb.
CODE = (
    *("configuration_ssl_wb.py", "feature_extraction_ssl_wb.py", "modeling_ssl_wb.py"),
    *("portable.py", "backbones.py", "front_ends.py"),
)


class TransformersFormat(ExportFormat):
    """Settings that transformers reads and, if asked for, code that needs only torch and transformers."""

    name = "transformers"
    summary = "transformers: `AutoModel`, `AutoFeatureExtractor`; `--self-contained` brings its own code"
    runtime = "transformers, torch; ssl-wb unless self-contained"
    options = ("self_contained",)

    def suitable(self, parts: EncoderParts, encoder: FrozenEncoder) -> None:
        """Check that the portable code has the encoder's plugins.

        Raises:
            UsageError: it has not.
        """
        portable_encoder(self.name, parts, encoder)

    def write(self, export: Export) -> list[str]:
        """Write ``preprocessor_config.json``, complete ``config.json`` and, if asked for, write the code."""
        file = export.folder / CONFIG
        config = json.loads(file.read_text(encoding="utf-8"))
        config |= {"model_type": "ssl-wb", "architectures": ["SslWbModel"], "dtype": "float32"}
        config["hidden_size"] = export.encoder.dim
        extractor = {
            "feature_extractor_type": "SslWbFeatureExtractor",
            "sampling_rate": export.encoder.sample_rate,
            "return_attention_mask": True,
        }
        if export.options.self_contained:
            write_code(export.folder, *CODE)
            config["auto_map"] = {
                "AutoConfig": "configuration_ssl_wb.SslWbConfig",
                "AutoModel": "modeling_ssl_wb.SslWbModel",
            }
            extractor["auto_map"] = {"AutoFeatureExtractor": "feature_extraction_ssl_wb.SslWbFeatureExtractor"}
        file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        text = json.dumps(extractor, indent=2) + "\n"
        (export.folder / "preprocessor_config.json").write_text(text, encoding="utf-8")
        return []

    def usage(self, config: Mapping[str, Any], options: ExportOptions) -> list[str]:
        """Return the lines that a user needs."""
        trust = ", trust_remote_code=True" if options.self_contained else ""
        return [
            "```python",
            *(
                []
                if options.self_contained
                else ["import ssl_wb.huggingface                          # registers the classes"]
            ),
            "from transformers import AutoFeatureExtractor, AutoModel",
            "",
            f'extractor = AutoFeatureExtractor.from_pretrained("FOLDER"{trust})',
            f'model = AutoModel.from_pretrained("FOLDER"{trust})',
            f'inputs = extractor([waveform], sampling_rate={config["sample_rate"]}, return_tensors="pt")',
            "output = model(**inputs)                           # pooler_output [B, D], last_hidden_state [B, T, D]",
            "```",
        ]
