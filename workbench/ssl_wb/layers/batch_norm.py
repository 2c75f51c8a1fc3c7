"""Batch normalisation over the batch of all processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.layers.processes import sum_with_gradient

__all__ = ["GlobalBatchNorm"]


class GlobalBatchNorm(nn.BatchNorm1d):
    """``nn.BatchNorm1d`` over rows ``[b, features]`` of all processes, on CPU and GPU alike.

    torch's own SyncBatchNorm runs on GPUs only. Mean first, then variance of what is left, always in float32, so that
    a mean far from zero costs no precision. The state dict is that of ``nn.BatchNorm1d``. A batch of one row, which
    torch refuses, gives the bias.

    Args:
        features: width.
        affine: multiply by a weight (from 1) and, with ``bias``, add a bias (from 0).
        bias: whether there is a bias.
        bias_frozen: the bias is there, and stays zero.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(
        self,
        features: int,
        affine: bool = True,
        bias: bool = True,
        *,
        bias_frozen: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__(features, eps=eps, momentum=momentum, affine=affine)
        if affine and not bias:
            self.register_parameter("bias", None)
        elif affine and bias_frozen:
            self.bias.requires_grad_(False)

    def forward(self, rows: Tensor) -> Tensor:
        """Normalise ``[b, features]`` of any precision to float32 ``[b, features]``."""
        if rows.dim() != 2:
            raise ValueError(f"GlobalBatchNorm takes rows [b, features], not a tensor of shape {list(rows.shape)}")
        rows = rows.float()
        if not self.training:
            return F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        # Sums and the number of rows travel in one message. Processes may have different numbers of rows.
        own = torch.cat([rows.sum(dim=0), rows.new_full((1,), len(rows))])  # [features + 1]
        sums, count = sum_with_gradient(own).split([self.num_features, 1])
        mean = sums / count  # [features]
        centred = rows - mean  # [b, features]
        # Biased (divided by the count) to normalise, as in torch; the running variance is unbiased.
        variance = sum_with_gradient(centred.square().sum(dim=0)) / count
        self._track(mean.detach(), variance.detach(), count.detach())
        normed = centred * (variance + self.eps).rsqrt()
        if self.weight is not None:
            normed = normed * self.weight
        return normed if self.bias is None else normed + self.bias

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics towards a batch's ``[features]``; the variance unbiased, as torch has it."""
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1).clamp_min(1), self.momentum)
        self.num_batches_tracked += 1
