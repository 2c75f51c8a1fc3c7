"""Which attention serves where, and that all of them compute the same."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
import torch

from ssl_wb.errors import UsageError
from ssl_wb.layers import attention as module
from ssl_wb.layers.attention import attention, attention_name, packed_attention, xformers_info

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
HALF = (torch.float16, torch.bfloat16)


@pytest.fixture
def xformers_at_hand(monkeypatch):
    monkeypatch.setattr(module, "_xformers", lambda: object())


@pytest.mark.usefixtures("xformers_at_hand")
def test_xformers_serves_half_precision_on_cuda_and_sdpa_all_else():
    for dtype in HALF:
        assert attention_name(CUDA, dtype) == "xformers"
        assert attention_name(CUDA, dtype, "xformers", 32) == "xformers"
        assert attention_name(CUDA, dtype, "sdpa") == "sdpa"
        assert attention_name(CUDA, dtype, head_dim=20) == "sdpa"
        assert attention_name(CPU, dtype) == "sdpa"
    assert attention_name(CUDA, torch.float32) == "sdpa"
    assert attention_name(CUDA) == "sdpa"


@pytest.mark.usefixtures("xformers_at_hand")
@pytest.mark.parametrize(
    ("device", "dtype", "head_dim", "reason"),
    [
        (CPU, torch.bfloat16, 64, "on CUDA devices only, not on cpu"),
        (CUDA, torch.float32, 64, "in fp16 and bf16, not in float32"),
        (CUDA, torch.float16, 20, "multiple of 8 up to 256, not 20"),
        (CUDA, torch.float16, 264, "multiple of 8 up to 256, not 264"),
    ],
)
def test_where_it_cannot_serve_it_is_refused_with_reason_and_way_out(monkeypatch, device, dtype, head_dim, reason):
    monkeypatch.setattr(module, "xformers_info", lambda: "xFormers 0.0: INFO")
    with pytest.raises(UsageError, match=reason) as caught:
        attention_name(device, dtype, "xformers", head_dim)
    assert "xFormers 0.0: INFO" in caught.value.message
    assert "\n" not in caught.value.message
    assert "backbone.attention = 'auto'" in caught.value.hint


def test_where_it_is_not_installed_auto_does_without(monkeypatch):
    monkeypatch.setattr(module, "_xformers", lambda: None)
    assert attention_name(CUDA, torch.bfloat16) == "sdpa"
    with pytest.raises(UsageError, match="cannot be imported"):
        attention_name(CUDA, torch.bfloat16, "xformers")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert xformers_info() == "xformers is not installed"


def test_the_info_is_one_line_and_the_import_says_nothing():
    """In a process of its own: an import happens once."""
    pytest.importorskip("xformers", reason="Linux and Windows on x86-64")
    program = "from ssl_wb.layers.attention import xformers_info; print(xformers_info())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    (said,) = done.stdout.splitlines()
    assert said.startswith("xFormers 0.0.")
    assert "attention operators: " in said
    assert "WARNING[XFORMERS]" not in done.stderr


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", ["sdpa", "xformers"])
def test_packed_attention_is_attention_and_stays_with_sdpa_off_cuda(kernel, dtype):
    torch.manual_seed(0)
    qkv = torch.randn(2, 7, 3, 4, 8).to(dtype)
    query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
    expected = attention(query, key, value).transpose(1, 2).flatten(2)
    assert torch.equal(packed_attention(qkv, kernel), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("head_dim", [32, 64])
def test_xformers_agrees_with_sdpa_forth_and_back(dtype, head_dim):
    torch.manual_seed(0)
    qkv = torch.randn(3, 57, 3, 4, head_dim, device="cuda")
    weights = torch.randn(3, 57, 4 * head_dim, device="cuda")
    found = {}
    for kernel in ("xformers", "sdpa", "exact"):
        given = qkv.to(torch.float64 if kernel == "exact" else dtype).requires_grad_()
        mixed = packed_attention(given, "sdpa" if kernel == "exact" else kernel)
        (mixed.double() * weights).sum().backward()
        found[kernel] = (mixed.double(), given.grad.double())
    rounding = torch.finfo(dtype).eps
    for number in range(2):
        exact = found["exact"][number]
        for kernel in ("xformers", "sdpa"):
            error = (found[kernel][number] - exact).norm() / exact.norm()
            assert error < 2 * rounding, (kernel, float(error))
