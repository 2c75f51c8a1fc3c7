"""The portable encoder, which several formats are made of, with the weights of an encoder."""

from __future__ import annotations

import json

import torch

from ssl_wb.encoder.carried.portable import PortableEncoder
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.folder import EncoderParts, config_of
from ssl_wb.errors import DataError, UsageError

__all__ = ["check_agreement", "portable_encoder"]

#: Largest difference of the portable encoder's embeddings from the encoder's, over their largest value.
AGREEMENT = 1e-4
#: Spectrogram frames that one of the two chunks compared has at most.
MOST_FRAMES = 512


def portable_encoder(target: str, parts: EncoderParts, encoder: FrozenEncoder) -> PortableEncoder:
    """Return the encoder in torch alone, after comparing it with the original.

    Args:
        target: name of the format, for messages.
        parts: what the encoder is.
        encoder: built of them.

    Raises:
        UsageError: the portable code does not have its front end or backbone.
        DataError: the portable code computes something else.
    """
    config = json.loads(json.dumps(config_of(parts, encoder)))
    try:
        portable = PortableEncoder(config).eval().requires_grad_(False)
        portable.backbone.load_state_dict(encoder.backbone.state_dict())
    except (ValueError, RuntimeError, KeyError) as error:
        raise UsageError(
            f"--for {target}: the encoder cannot be written without its plugins ({error})",
            hint="formats that use the installed plugins take it: encoder, hear, xares, maeb",
        ) from error
    check_agreement(target, encoder, portable)
    return portable


def check_agreement(target: str, encoder: FrozenEncoder, exported: torch.nn.Module) -> None:
    """Compare what was exported with the encoder, on clips of unlike length.

    Args:
        target: name of the format, for messages.
        encoder: the original.
        exported: called with ``[B, S]`` and ``[B]`` it returns embeddings ``[B, D]`` and frames ``[B, T, d]`` first.

    Raises:
        DataError: they differ.
    """
    # Two chunks and a bit, where a chunk is not minutes long.
    whole = min(encoder.reading.chunk_frames or MOST_FRAMES, MOST_FRAMES)
    longest = encoder.front_end.samples_of(2 * whole + encoder.patch_width)
    lengths = torch.tensor([longest, longest // 3, encoder.front_end.samples_of(1)])
    waveform = 0.1 * torch.randn(3, longest, generator=torch.Generator().manual_seed(0))  # [B, S]
    waveform = waveform.masked_fill(torch.arange(longest) >= lengths[:, None], 0.0)
    expected = encoder.embed_clip(waveform, lengths), encoder.embed_frames(waveform, lengths)
    with torch.no_grad():
        found = exported(waveform, lengths)
    for what, own, other in zip(("embeddings", "frames"), expected, found, strict=False):
        if own.shape != other.shape:
            raise DataError(f"--for {target}: {what} {tuple(other.shape)}, not {tuple(own.shape)}: a fault of ssl-wb")
        difference = float((own - other).abs().max() / own.abs().max().clamp(min=1e-6))
        if not difference < AGREEMENT:
            raise DataError(
                f"--for {target}: its {what} differ from the encoder's by {difference:.2g} of their largest value",
                hint="nothing was written; has the backbone options that this format does not know?",
            )
