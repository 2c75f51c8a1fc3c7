"""X-ARES encoder of this folder (github.com/jimbozhang/xares); needs ssl-wb."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from ssl_wb.encoder.load import load_encoder

__all__ = ["SslWbEncoder"]


class SslWbEncoder(nn.Module):
    """The encoder with the attributes that X-ARES asks for; clips of any length.

    Args:
        folder: an encoder folder; the folder of this file unless given.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        super().__init__()
        self.encoder = load_encoder(folder or Path(__file__).parent)
        self.sampling_rate: int = self.encoder.sample_rate
        self.output_dim: int = self.encoder.dim
        self.hop_size_in_ms: float = 1000 * self.encoder.hop_seconds

    def forward(self, audio: Tensor) -> Tensor:
        """Embed clips ``[B, S]``, or one ``[S]``, as ``[B, T, D]``."""
        return self.encoder.embed_frames(audio)
