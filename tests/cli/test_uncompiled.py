"""Shapes come without torch's compiler, and the compiler comes whole when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAD = """
import sys
import torch
from ssl_wb.cli.uncompiled import uncompiled

assert "torch._dynamo" not in sys.modules
"""

SHAPES = """
with uncompiled(), torch.device("meta"):
    layer = torch.nn.Linear(3, 5)
    assert layer(torch.zeros(2, 3)).shape == (2, 5)
"""

CASES = {
    "nothing is left behind": f"""
{SHAPES}
assert "torch._dynamo" not in sys.modules
assert "_dynamo" not in vars(torch)
""",
    "compiling afterwards": f"""
{SHAPES}
double = torch.compile(lambda x: 2 * x, backend="eager")
assert double(torch.ones(3)).tolist() == [2.0, 2.0, 2.0]
""",
    "compiling inside": """
with uncompiled():
    torch.zeros(2, device="meta").normal_()
    stand_in = sys.modules["torch._dynamo"]
    assert torch.compile(lambda x: 2 * x, backend="eager")(torch.ones(1)).item() == 2.0
    assert sys.modules["torch._dynamo"] is not stand_in
real = sys.modules["torch._dynamo"]
mark = stand_in.disable(lambda: 3, True, wrapping=False)
assert mark() == 3 and mark._torchdynamo_disable
assert real.config is stand_in.config
""",
    "importing a part inside": """
with uncompiled():
    from torch._dynamo.eval_frame import innermost_fn
assert sys.modules["torch._dynamo"].eval_frame.innermost_fn is innermost_fn
""",
    "an error inside": """
try:
    with uncompiled():
        raise KeyError
except KeyError:
    pass
assert "torch._dynamo" not in sys.modules
""",
    "imported before": """
import torch._dynamo
with uncompiled():
    assert sys.modules["torch._dynamo"] is torch._dynamo
assert sys.modules["torch._dynamo"] is torch._dynamo
""",
    "no function keeps a false mark": """
from torch import _compile

def asked():
    return 1

marked = _compile._disable_dynamo(asked)
with uncompiled():
    assert marked() == 1
    assert "torch._dynamo" in sys.modules
assert not vars(asked)
assert marked() == 1
assert getattr(vars(asked)["__dynamo_disable"], "_torchdynamo_disable", False)
""",
}


@pytest.mark.parametrize("case", CASES)
def test_the_stand_in_gives_way(case):
    """In processes of their own: this one has imported what it has imported."""
    done = subprocess.run([sys.executable, "-c", HEAD + CASES[case]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
