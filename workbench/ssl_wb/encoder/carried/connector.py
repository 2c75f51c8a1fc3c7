"""Audio tokens for a language model: the encoder of this folder, frozen, and a connector to train; needs ssl-wb."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.encoder.load import load_encoder

__all__ = ["AudioTokens", "Connector"]

SETTINGS, WEIGHTS = "connector.json", "connector.safetensors"


class Connector(nn.Module):
    """Maps frames to tokens of a language model: adjacent frames are stacked, normed and projected.

    A LayerNorm without parameters and one linear layer, as in LTU (Gong et al. 2024, arXiv 2305.10790).

    Args:
        dim: width of a frame.
        stack: frames per token.
        width: of a token, that of the language model's embeddings.
    """

    def __init__(self, dim: int, stack: int, width: int) -> None:
        super().__init__()
        self.stack = stack
        self.norm = nn.LayerNorm(dim * stack, elementwise_affine=False)
        self.proj = nn.Linear(dim * stack, width)

    def forward(self, frames: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Map frames to tokens.

        Args:
            frames: ``[B, T, D]``, 0 after a clip's end.
            counts: int64 ``[B]``, frames of each clip.

        Returns:
            Tokens ``[B, N, width]``, 0 after a clip's end, and which of them belong to a clip, bool ``[B, N]``.
        """
        missing = -frames.shape[1] % self.stack
        stacked = F.pad(frames, (0, 0, 0, missing)).unflatten(1, (-1, self.stack)).flatten(2)  # [B, N, stack * D]
        own = torch.arange(stacked.shape[1], device=frames.device) * self.stack < counts[:, None]  # [B, N]
        return self.proj(self.norm(stacked)) * own[..., None], own


class AudioTokens(nn.Module):
    """The frozen encoder and the connector behind it.

    Args:
        folder: an exported folder; that of this file unless given. A connector that was saved there is loaded.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        super().__init__()
        self.folder = Path(folder or Path(__file__).parent)
        settings = json.loads((self.folder / SETTINGS).read_text(encoding="utf-8"))
        self.encoder = load_encoder(self.folder, embedding="frames")  # the rows of the patch grid are averaged
        self.sample_rate: int = self.encoder.sample_rate
        self.token_rate: float = 1.0 / (self.encoder.hop_seconds * settings["stack"])
        self.connector = Connector(self.encoder.dim, settings["stack"], settings["width"])
        if (self.folder / WEIGHTS).is_file():
            self.connector.load_state_dict(load_file(self.folder / WEIGHTS))

    def train(self, mode: bool = True) -> AudioTokens:
        """Switch the connector to training; the encoder stays as it is."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map clips to tokens.

        Args:
            waveform: ``[B, S]`` at ``sample_rate``, full scale 1.
            lengths: int64 ``[B]``, samples of each clip; all of S when None.

        Returns:
            As :class:`Connector`: ``[B, N, width]`` and ``[B, N]``.
        """
        frames = self.encoder.embed_frames(waveform, lengths)  # [B, T, D]
        samples = [waveform.shape[1]] * len(waveform) if lengths is None else [int(length) for length in lengths]
        counts = torch.tensor([self.encoder.columns_of(count) for count in samples], device=frames.device)  # [B]
        return self.connector(frames, counts)

    def save(self) -> None:
        """Save the connector's weights in the folder."""
        save_file(self.connector.state_dict(), self.folder / WEIGHTS)
