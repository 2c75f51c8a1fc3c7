"""The tensors of a foreign checkpoint, and an account of what becomes of each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ssl_wb.errors import DataError, itemise

__all__ = ["CheckpointTensors", "TensorFate"]

#: Most numbered parts that stored settings are believed about.
MOST_PARTS = 1000
#: Faults listed in a message; the rest is only counted.
SHOWN = 12


@dataclass(frozen=True)
class TensorFate:
    """What became of one tensor of a checkpoint.

    Attributes:
        name: as the file has it.
        shape: of the file.
        fate: "used", "left over", or "checked" where it was only compared with what follows from the settings.
        to: name in the encoder, where it is used.
        why: what was done with it, or why it is left over.
    """

    name: str
    shape: tuple[int, ...]
    fate: str
    to: str = ""
    why: str = ""

    def as_json(self) -> dict[str, object]:
        """Return plain values."""
        return {"name": self.name, "shape": list(self.shape), "fate": self.fate, "to": self.to, "why": self.why}


class CheckpointTensors:
    """Tensors by name; each is taken, or left over with a reason, and :meth:`finish` refuses all others by name.

    Faults are collected, so that one message names them all: a missing tensor is answered with zeros until then.

    Args:
        tensors: by name, prefixes of wrappers removed.
        where: the file, for messages.
        original: names in the file, by name here, where they differ.
    """

    def __init__(self, tensors: Mapping[str, Tensor], where: str, original: Mapping[str, str] | None = None) -> None:
        self._tensors = dict(tensors)
        self.where = where
        self._original = dict(original or {})
        # Names in messages are those of the file: a missing one gets the prefix that was removed from most.
        prefixes = Counter(old.removesuffix(new) for new, old in self._original.items() if old.endswith(new))
        self._prefix = prefixes.most_common(1)[0][0] if prefixes else ""
        self._fates: dict[str, TensorFate] = {}
        self._faults: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def names(self, pattern: str = "") -> list[str]:
        """Return names that match a regular expression from their start to their end; all without one."""
        return [name for name in self._tensors if not pattern or re.fullmatch(pattern, name)]

    def has(self, pattern: str) -> bool:
        """Whether a name matches a regular expression from start to end."""
        return bool(self.names(pattern))

    def size(self, what: str, places: Mapping[str, int], stored: Any = None) -> int:
        """Return a size that many tensors share, by majority: a single tensor of wrong shape does not change it.

        Args:
            what: the size in words, as "width".
            places: axis that has this size, by regular expression of names.
            stored: the size in the file's settings, which counts as one more tensor; None where they do not say.

        Raises:
            DataError: no tensor of these is there.
        """
        votes: dict[int, list[str]] = {}
        for pattern, axis in places.items():
            for name in self.names(pattern):
                shape = self._tensors[name].shape
                if -len(shape) <= axis < len(shape):
                    votes.setdefault(shape[axis], []).append(self._named(name))
        if not votes:
            looked = ", ".join(self._named(pattern.replace("\\", "")) for pattern in places)
            raise DataError(
                f"{self.where}: no tensor tells the {what}; missing: {looked}",
                hint="the file is incomplete, or of another system: leave out --system, or name another",
            )
        if isinstance(stored, int):
            votes.setdefault(stored, []).append("the stored settings")
        ranked = sorted(votes.items(), key=lambda vote: -len(vote[1]))
        if len(ranked) > 1 and len(ranked[0][1]) == len(ranked[1][1]):
            sides = [f"{names[0]} {size}" for size, names in ranked[:2]]
            self._faults.append(f"of another shape: the {what} is not the same everywhere: {' and '.join(sides)}")
        return ranked[0][0]

    def count(self, pattern: str, stored: Any = None) -> int:
        r"""Return how many numbered parts there are.

        Args:
            pattern: regular expression of the beginning of names, with the number as its group, as ``blocks\.(\d+)\.``.
            stored: the number in the file's settings, which is then the answer: a part that is absent altogether is
                noticed by it.

        Returns:
            One more than the largest number of a part that has half of a part's tensors at least: a single tensor of
            wrong name does not add a part.
        """
        if isinstance(stored, int) and 0 < stored <= MOST_PARTS:
            return stored
        numbers = Counter(int(found.group(1)) for name in self._tensors if (found := re.match(pattern, name)))
        most = max(numbers.values(), default=0)
        return max((number for number, tensors in numbers.items() if 2 * tensors >= most), default=-1) + 1

    def take(self, name: str, shape: Iterable[int | None], to: str = "", why: str = "") -> Tensor:
        """Return a tensor as float32 and note that it is used.

        Args:
            name: of the tensor.
            shape: it must have; None allows any size.
            to: its name in the encoder, as ``trunk.norm.weight``.
            why: what is done with it, where that is more than renaming.

        Returns:
            The tensor; zeros of the shape where it is missing or misshapen, which :meth:`finish` refuses.
        """
        wanted = tuple(shape)
        fallback = torch.zeros([1 if size is None else size for size in wanted])
        value = self._tensors.get(name)
        if value is None:
            self._faults.append(f"missing: {self._named(name)} {_text(wanted)}")
            return fallback
        found = tuple(value.shape)
        self._note(name, "used", to, why)
        if len(found) != len(wanted) or any(b not in (None, a) for a, b in zip(found, wanted, strict=True)):
            self._faults.append(f"of another shape: {self._named(name)} is {_text(found)}, expected {_text(wanted)}")
            return fallback
        if not value.is_floating_point():
            self._faults.append(f"of another type: {self._named(name)} holds {str(value.dtype).removeprefix('torch.')}")
            return fallback
        if not bool(value.isfinite().all()):
            self._faults.append(f"not finite: {self._named(name)} holds infinite or undefined values")
            return fallback
        return value.detach().float()

    def leave(self, pattern: str, why: str) -> None:
        """Leave over every tensor whose name matches a regular expression, from start to end, and say why."""
        for name in self.names(pattern):
            if name not in self._fates:
                self._note(name, "left over", "", why)

    def check(self, name: str, expected: Tensor, tolerance: float = 1e-4) -> None:
        """Compare a stored tensor, such as a mel filter bank, with what the encoder computes itself; refuse others."""
        value = self.take(name, expected.shape)
        self._fates.pop(name, None)
        if name in self._tensors:
            self._note(name, "checked", "", "equals what the front end computes")
            difference = float((value - expected).abs().max())
            if difference > tolerance:
                self._faults.append(f"unexpected: {self._named(name)} differs by {difference:.2g} from the front end's")

    def refuse(self, name: str, fault: str) -> None:
        """Add a fault of a tensor in words."""
        self._faults.append(f"{self._named(name)}: {fault}")

    def finish(self) -> list[TensorFate]:
        """Return the account of all tensors.

        Raises:
            DataError: tensors are missing, unknown, misshapen or not finite; the message names them.
        """
        unknown = [name for name in self._tensors if name not in self._fates]
        faults = [*self._faults, *(f"unknown: {self._named(name)} {self._shape(name)}" for name in unknown)]
        if faults:
            raise DataError(
                itemise(f"{self.where}: nothing was imported; {len(faults)} tensors do not fit", faults, SHOWN),
                hint="the file was changed, is incomplete, or is of another system or version",
            )
        return [self._fates[name] for name in self._tensors]

    def _note(self, name: str, fate: str, to: str, why: str) -> None:
        shape = tuple(self._tensors[name].shape)
        self._fates[name] = TensorFate(self._original.get(name, name), shape, fate, to, why)

    def _named(self, name: str) -> str:
        """Return the name that a tensor has, or would have, in the file."""
        return self._original.get(name, self._prefix + name)

    def _shape(self, name: str) -> str:
        return _text(tuple(self._tensors[name].shape))


def _text(shape: tuple[int | None, ...]) -> str:
    """Write a shape; sizes that may vary as ``*``."""
    return "[" + ", ".join("*" if size is None else str(size) for size in shape) + "]"
