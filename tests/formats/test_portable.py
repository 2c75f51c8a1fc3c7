"""The encoder in torch alone computes what the encoder does, for every layout and length."""

from __future__ import annotations

import json

import pytest
import torch
from torch.testing import assert_close

from imported import layouts
from ssl_wb.encoder.carried.portable import PortableEncoder
from ssl_wb.encoder.folder import config_of
from ssl_wb.encoder.formats.portable import check_agreement, portable_encoder
from ssl_wb.encoder.load import encoder_parts
from ssl_wb.errors import DataError, UsageError

#: One of each front end, backbone and way of reading; the others are marked.
FEW = ("tiny_matpac.pt", "inference_beats.pt", "inference_eat_fairseq.pt", "inference_dasheng.pt", "checkpoint-100.pth")


def some_layouts():
    for path in layouts():
        marks = () if path.name in FEW else (pytest.mark.torture,)
        yield pytest.param(path, id="/".join(path.parts[-2:]), marks=marks)


@pytest.mark.parametrize("path", list(some_layouts()))
def test_every_layout_computes_what_the_encoder_does(path):
    parts = encoder_parts(path)
    encoder = parts.build(str(path))
    portable = portable_encoder("transformers", parts, encoder)  # compares two chunks and a bit, one third, one frame
    for lengths in ([12_800, 1, 799], [encoder.sample_rate // 20]):
        waveform = torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(1)) * 0.1
        lengths = torch.tensor(lengths)
        waveform = waveform.masked_fill(torch.arange(waveform.shape[1]) >= lengths[:, None], 0.0)
        with torch.no_grad():
            found = portable(waveform, lengths)
        assert_close(found.embedding, encoder.embed_clip(waveform, lengths), rtol=1e-5, atol=1e-4)
        assert_close(found.frames, encoder.embed_frames(waveform, lengths), rtol=1e-5, atol=1e-4)
        assert_close(torch.stack(found.layers, dim=1), encoder.layers(waveform, lengths), rtol=1e-5, atol=1e-4)


def test_what_the_portable_code_does_not_have_is_refused(dasheng):
    parts = encoder_parts(dasheng)
    encoder = parts.build("dasheng")
    config = json.loads(json.dumps(config_of(parts, encoder)))
    for key, change in (("backbone", {"name": "mine"}), ("front_end", {"name": "mine"})):
        with pytest.raises(ValueError, match="'mine': this code has"):
            PortableEncoder({**config, key: {**config[key], **change}})
    with pytest.raises(ValueError, match="encoded whole"):
        PortableEncoder({**config, "reading": {**config["reading"], "chunk_frames": None}})
    encoder.backbone.extra = torch.nn.Linear(2, 2)
    with pytest.raises(UsageError, match="without its plugins") as caught:
        portable_encoder("onnx", parts, encoder)
    assert "hear" in caught.value.hint


def test_an_encoder_that_computes_something_else_is_refused(dasheng):
    parts = encoder_parts(dasheng)
    encoder = parts.build("dasheng")
    portable = portable_encoder("transformers", parts, encoder)
    portable.backbone.trunk.norm.weight.data[0] += 0.1
    with pytest.raises(DataError, match="differ from the encoder's by"):
        check_agreement("transformers", encoder, portable)
