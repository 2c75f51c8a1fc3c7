"""What the machine did is told as such."""

from __future__ import annotations

import errno

import pytest

from ssl_wb.errors import machine_fault


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/a"), "runs/a: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), "runs: permission is denied"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), "a/b: a part of the path is a file"),
        (RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"), "the disk is full"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 39 bytes"), "memory ran out"),
        (MemoryError(), "memory ran out"),
    ],
)
def test_a_fault_of_the_machine_says_what_and_what_to_do(error, said):
    fault = machine_fault(error)
    assert fault.message.startswith(said)
    assert "--resume" in fault.hint


def test_a_defect_is_none_of_the_machine():
    assert machine_fault(ValueError("two")) is None
    assert machine_fault(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
