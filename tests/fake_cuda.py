"""CUDA without a GPU: torch's fake tensors have a device and a shape, and refuse to meet tensors of another device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.overrides import TorchFunctionMode

from ssl_wb.layers import noise

CUDA = torch.device("cuda")
#: Fake tensors of two modes do not mix, and layers cache some constants: one mode serves all tests.
MODE = FakeTensorMode(shape_env=ShapeEnv())


class FakeGenerator(torch.Generator):
    """A generator that says it is on another device: a real one for CUDA cannot be made without a GPU."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls)
        made.where = torch.device(device)
        return made

    @property
    def device(self):
        return self.where


class _LikeCuda(TorchFunctionMode):
    """Mends two differences of fake tensors from those on a GPU.

    They can be drawn by a generator of another device, which CUDA refuses. They have no values for the host to read: a
    number that it asks for, as the structured masker does, is one half here.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is Tensor.__float__:
            return 0.5
        result = function(*args, **(kwargs or {}))
        generator = (kwargs or {}).get("generator")
        if generator is not None and isinstance(result, Tensor) and result.device.type != generator.device.type:
            name = getattr(function, "__name__", function)
            raise RuntimeError(f"{name}: generator on {generator.device}, tensor on {result.device}")
        return result


@contextmanager
def fake_cuda() -> Iterator[None]:
    """Compute with fake tensors inside; ``device="cuda"`` works there."""
    noise._keep.cache_clear()  # it may hold real constants of other tests
    try:
        with mock.patch.object(torch, "Generator", FakeGenerator), MODE, _LikeCuda():
            yield
    finally:
        noise._keep.cache_clear()


def to_cuda(module: nn.Module) -> nn.Module:
    """Replace parameters and buffers by fake CUDA ones, as ``.to("cuda")`` would, and nothing else."""
    made: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, weight in list(part.named_parameters(recurse=False)):
            if id(weight) not in made:  # tied weights stay tied
                made[id(weight)] = nn.Parameter(_moved(weight), requires_grad=weight.requires_grad)
            setattr(part, name, made[id(weight)])
        for name, buffer in list(part.named_buffers(recurse=False)):
            setattr(part, name, _moved(buffer))
    return module


def _moved(tensor: Tensor) -> Tensor:
    fake = MODE.from_tensor(tensor.detach(), static_shapes=True)
    with MODE:
        return torch.empty_like(fake, device=CUDA)
