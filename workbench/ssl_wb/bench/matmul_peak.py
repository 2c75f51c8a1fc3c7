"""How fast the machine multiplies matrices of the model's size: what utilisation is a share of."""

from __future__ import annotations

import time

import torch

from ssl_wb.layers.parts import wait_for_device

__all__ = ["MatmulPeak"]

#: Rows beyond which a product gets no faster.
MOST_ROWS = 8192

_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class MatmulPeak:
    """Best rate of the products of a transformer's MLP: ``[R, D] x [D, 4 D]`` and ``[R, 4 D] x [4 D, D]``.

    Args:
        rows: ``R``, tokens of a batch; no more than :data:`MOST_ROWS` are taken.
        dim: ``D``, width of the backbone.
        precision: Accelerate's word for the number format of training.
        device: where it trains.
    """

    def __init__(self, rows: int, dim: int, precision: str, device: torch.device) -> None:
        self.device = device
        self.rows = min(rows, MOST_ROWS)
        self.dim = dim
        self.gflop_per_second = 0.0
        dtype = _DTYPES[precision]
        self._narrow = torch.randn(self.rows, dim, device=device, dtype=dtype)
        self._wide = torch.randn(self.rows, 4 * dim, device=device, dtype=dtype)
        self._up = torch.randn(dim, 4 * dim, device=device, dtype=dtype)
        self._down = torch.randn(4 * dim, dim, device=device, dtype=dtype)

    @torch.no_grad()
    def probe(self, times: int = 3) -> None:
        """Time each product a few times and keep the best rate so far."""
        gflop = 2e-9 * self.rows * self.dim * 4 * self.dim
        for left, right, out in ((self._narrow, self._up, self._wide), (self._wide, self._down, self._narrow)):
            result = torch.empty_like(out)
            for _ in range(times):
                wait_for_device(self.device)
                began = time.perf_counter()
                torch.mm(left, right, out=result)
                wait_for_device(self.device)
                self.gflop_per_second = max(self.gflop_per_second, gflop / (time.perf_counter() - began))
