"""What several tests use: reference values, real clips, a CUDA guard."""

from __future__ import annotations

import os

# Before torch, as the command line sets it: threads that spin for long slow everything down where cores are shared.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from pathlib import Path

import numpy as np
import pytest
import torch

torch.set_num_threads(1)  # the models of the tests are too small for more

REFERENCE = Path(__file__).parent / "reference"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep what tests compute out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("user cache")))
        yield


@pytest.fixture(scope="session")
def reference():
    """Load a reference archive as tensors by name."""

    def load(name: str) -> dict[str, torch.Tensor]:
        with np.load(REFERENCE / f"{name}.npz") as archive:
            return {key: torch.from_numpy(np.asarray(archive[key])) for key in archive.files}

    return load


@pytest.fixture(scope="session")
def reference_weights():
    """Load a reference state dict, without pickle."""

    def load(name: str) -> dict:
        return torch.load(REFERENCE / name, weights_only=True)

    return load


@pytest.fixture(scope="session")
def real_audio() -> Path:
    """Folder of the real clips, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("SSL_WB_AUDIO", ""))
    if not os.environ.get("SSL_WB_AUDIO") or not (folder / "pretrain.csv").is_file():
        pytest.skip("real clips are absent: set SSL_WB_AUDIO to the folder that holds pretrain.csv")
    return folder


def pytest_collection_modifyitems(items):
    """Skip what needs a GPU where there is none."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


def pytest_terminal_summary(terminalreporter):
    """Print a line for each of the shared cases that were run."""
    seen = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if report.nodeid.startswith("tests/cases/") and (outcome != "passed" or report.when == "call"):
                seen[report.nodeid.partition("::test_")[2]] = outcome
    if set(seen.values()) - {"skipped"}:
        for name, outcome in sorted(seen.items()):
            terminalreporter.write_line(f"case {name.replace('_', '-')}: {outcome}")
