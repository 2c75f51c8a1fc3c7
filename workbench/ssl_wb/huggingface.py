"""Encoder folders as models of transformers: importing this module registers their classes.

::

    import ssl_wb.huggingface
    from transformers import AutoFeatureExtractor, AutoModel

    extractor = AutoFeatureExtractor.from_pretrained("encoders/mine")
    model = AutoModel.from_pretrained("encoders/mine")
"""

from __future__ import annotations

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from ssl_wb.encoder.carried.configuration_ssl_wb import SslWbConfig
from ssl_wb.encoder.carried.feature_extraction_ssl_wb import SslWbFeatureExtractor
from ssl_wb.encoder.carried.modeling_ssl_wb import SslWbModel

__all__ = ["SslWbConfig", "SslWbFeatureExtractor", "SslWbModel"]

AutoConfig.register(SslWbConfig.model_type, SslWbConfig, exist_ok=True)
AutoModel.register(SslWbConfig, SslWbModel, exist_ok=True)
AutoFeatureExtractor.register(SslWbConfig, SslWbFeatureExtractor, exist_ok=True)
