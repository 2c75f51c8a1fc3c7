"""Every folder of the cases has a test that is named after it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CASES = Path(os.environ.get("SSL_WB_CASES", ""))


@pytest.mark.skipif(
    not os.environ.get("SSL_WB_CASES") or not CASES.is_dir(), reason="set SSL_WB_CASES to the folder of the cases"
)
def test_every_case_has_a_test():
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    cases = [path.parent.name for path in sorted(CASES.glob("*/how.md"))]
    missing = [name for name in cases if f"def test_{name.replace('-', '_')}" not in tests and f'"{name}"' not in tests]
    assert missing == []
