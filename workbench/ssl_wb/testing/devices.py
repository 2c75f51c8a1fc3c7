"""Placement on another device: on CUDA where there is one, else on fake tensors, which have a device and no values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

# torch has no public name for fake tensors; its own documentation imports them from here.
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, ShapeEnv
from torch.overrides import TorchFunctionMode

__all__ = ["CUDA", "FakeGenerator", "cuda_generator", "fake_cuda", "on_cuda", "to_cuda"]

CUDA = torch.device("cuda")
#: Fake tensors of two modes do not mix, and layers cache some constants: one mode serves all checks.
_MODE = FakeTensorMode(shape_env=ShapeEnv())


class FakeGenerator(torch.Generator):
    """A generator that says it is on another device: a real one for CUDA cannot be made without a GPU."""

    where: torch.device

    def __new__(cls, device: str | torch.device = "cpu") -> FakeGenerator:
        """Make a generator of the CPU that names another device."""
        made = super().__new__(cls)
        made.where = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The device it says it is on."""
        return self.where


class _LikeCuda(TorchFunctionMode):
    """Mends two differences of fake tensors from those on a GPU.

    They can be drawn by a generator of another device, which CUDA refuses. They have no values for the host to read: a
    number that it asks for, as the structured masker does, is one half here.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
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
    """Compute with fake tensors inside; ``device="cuda"`` works there without a GPU."""
    with _MODE, _LikeCuda():
        yield


@contextmanager
def on_cuda() -> Iterator[None]:
    """Compute on CUDA inside: the real one where there is a GPU.

    Fake tensors have no values: where a shape depends on some (``nonzero``), the rehearsal ends there without an error.
    """
    if torch.cuda.is_available():
        yield
        return
    with suppress(GuardOnDataDependentSymNode, DataDependentOutputException), fake_cuda():
        yield


def cuda_generator() -> torch.Generator:
    """Return a generator for use within :func:`on_cuda`."""
    return torch.Generator(CUDA) if torch.cuda.is_available() else FakeGenerator(CUDA)


def to_cuda(module: nn.Module, *, fake: bool | None = None) -> nn.Module:
    """Move parameters and buffers to CUDA, and nothing else, as ``.to("cuda")`` does.

    Args:
        module: what to move; changed in place.
        fake: replace them by fake tensors; where there is no GPU unless given.
    """
    if not (not torch.cuda.is_available() if fake is None else fake):
        return module.to(CUDA)
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
    fake = _MODE.from_tensor(tensor.detach(), static_shapes=True)
    with _MODE:
        return torch.empty_like(fake, device=CUDA)
