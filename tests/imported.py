"""Imported checkpoints beside what the released code computed: every layout of golden2 and of the older values.

``SSL_WB_GOLDEN`` names the folder of another draw, with other sizes under the same names.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.importing.convert import import_checkpoint
from ssl_wb.plugin.masker import Grid

OLDER = Path(__file__).parent / "reference"
FOLDER = Path(os.environ.get("SSL_WB_GOLDEN") or OLDER / "golden2")
CLIPS = ("clip_0", "clip_1")


def recorded(name: str, folder: Path = FOLDER) -> dict[str, Tensor]:
    """Return the recorded values of ``name``."""
    with np.load(folder / f"{name}.npz") as found:
        return {key: torch.from_numpy(np.asarray(found[key])) for key in found.files}


def waveforms() -> dict[str, Tensor]:
    """Return the two clips, float32 ``[1, S]`` at 16 kHz."""
    return {name: (value.float() / 32768)[None] for name, value in recorded("inference_waveforms").items()}


def only(pattern: str) -> list[Path]:
    """Return what matches in the folder; names of folders differ from draw to draw."""
    return sorted(FOLDER.glob(pattern))


def layouts() -> list[Path]:
    """Return the weights of every layout that there is."""
    found = [*only("inference_*.pt"), *only("inference_*/*/*.pth"), *only("inference_*/*.safetensors")]
    older = ["tiny_matpac.pt", "tiny_matpac_pretraining.pt", "tiny_audiomosaic.pt"]
    return [*found, *(OLDER / name for name in older), *sorted(OLDER.glob("m2d_vit_base-*/*.pth"))]


class Pass(NamedTuple):
    """Chunks of one length in one pass: their grid, each block's output, and the latents, ``[n, prefix + N, D]``."""

    grid: Grid
    blocks: list[Tensor]
    latents: Tensor

    def time_major(self, values: Tensor, prefix: int) -> Tensor:
        """Return tokens of the first chunk as the time-major systems order them, prefix first: ``[prefix + N, D]``."""
        tiles = values[0, prefix:].unflatten(0, tuple(self.grid)).transpose(0, 1).flatten(0, 1)
        return torch.cat([values[0, :prefix], tiles])


@torch.no_grad()
def passes(encoder: FrozenEncoder, waveform: Tensor) -> list[Pass]:
    """Return what the backbone computes of a clip, longest chunks first."""
    found: list[Pass] = []

    def encode(patches: Tensor, grid: Grid, chunks: list) -> list[Tensor]:
        tokens = encoder.backbone.embed(patches, grid)
        found.append(Pass(grid, encoder.backbone.trunk.layers(tokens), encoder.backbone(tokens)))
        return []

    encoder.run_chunks(waveform, torch.tensor([waveform.shape[1]]), encode)
    return sorted(found, key=lambda one: -one.grid.time)


def imported(place: Path) -> FrozenEncoder:
    """Import a checkpoint without a flag."""
    return import_checkpoint(place).encoder


def time_major_input(encoder: FrozenEncoder, waveform: Tensor) -> Tensor:
    """Return the normalised spectrogram as the time-major systems write it, ``[T, F]``."""
    return encoder.front_end(waveform)[0][0].T
