"""What a command imports is what it makes one wait for."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Each costs a quarter of a second or more, and only training, probes or pictures need it.
LATER = ("accelerate", "sklearn", "scipy", "matplotlib", "torchaudio", "xformers", "datasets", "audiomentations")

SCRIPT = """
import sys
from ssl_wb.cli.main import run
code = run(sys.argv[1:])
print("\\nimported:", *(name for name in sys.modules if "." not in name), file=sys.stderr)
sys.exit(code)
"""


def imported(*words: str) -> set[str]:
    """Run a command in a process of its own and return the names of what it imported."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("imported: ")[2].split())


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["bench", "--help"], ["--version"]])
def test_help_imports_no_torch_and_no_numpy(words):
    names = imported(*words)
    assert "typer" in names
    assert not names & {"torch", "numpy", *LATER}


@pytest.mark.parametrize("words", [["list-plugins"], ["validate", "quickstart"], ["validate", "matpac-plus-plus"]])
def test_checks_import_only_what_they_check_with(words):
    names = imported(*words)
    assert "torch" in names
    assert not names & set(LATER)
