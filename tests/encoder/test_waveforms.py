"""Waveforms as encoders take them: integers are scaled or refused, numpy arrays accepted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ssl_wb.encoder.waveforms import checked_waveform
from ssl_wb.errors import UsageError

WAVE = torch.randn(2, 400, generator=torch.Generator().manual_seed(0)) * 0.1


@pytest.mark.parametrize("scale", [(2**15, torch.int16), (2**31, torch.int32)])
def test_integers_are_scaled_by_their_full_scale(scale):
    full, dtype = scale
    integers = (WAVE.double() * full).to(dtype)
    for one in (integers, integers.numpy(), integers.numpy().astype(f">i{integers.element_size()}")):
        found, lengths = checked_waveform(one, None)
        assert found.dtype == torch.float32
        assert_close(found, WAVE, rtol=0, atol=1 / full + 1e-7)
        assert lengths.tolist() == [400, 400]


def test_numpy_arrays_and_lists_of_lengths():
    for array in (WAVE.numpy(), WAVE.double().numpy(), WAVE.numpy()[:, ::-1][:, ::-1]):
        found, lengths = checked_waveform(array, [400, 300])
        assert_close(found, WAVE)
        assert lengths.tolist() == [400, 300]


@pytest.mark.parametrize(
    ("waveform", "says"),
    [
        (WAVE.to(torch.int64), "Tensor of torch.int64"),
        (WAVE.to(torch.uint8), "torch.uint8"),
        (WAVE > 0, "torch.bool"),
        (WAVE.to(torch.complex64), "torch.complex64"),
        (np.zeros(8, dtype=np.uint16), "ndarray of uint16"),
        (np.array(["a"]), "ndarray of <U1"),
        ([0.0, 1.0], "list"),
    ],
)
def test_other_types_are_refused_by_name(waveform, says):
    with pytest.raises(UsageError) as caught:
        checked_waveform(waveform, None)
    assert says in caught.value.message
