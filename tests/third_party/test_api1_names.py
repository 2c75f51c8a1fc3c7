"""Every name and every signature that ``ssl_wb.api`` had in version 0.1 is still accepted."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from api1_signatures import Parameters, signatures

from ssl_wb import api

SNAPSHOT = json.loads((Path(__file__).parent / "api1-signatures.json").read_text())
NOW = signatures(api)
POSITIONAL = ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD")
#: Parameters that have a new name at their old position; the old one works as a keyword.
RENAMED = {"View": {"branches": "mlp_outputs", "finish": "final_norm"}}


def check_call(call: object, old: Parameters, where: str, renamed: dict[str, str]) -> None:
    """Bind every call that the old parameters allow, from all by position to all by keyword, with and without defaults.

    Args:
        call: what is called today.
        old: its parameters in 0.1.
        where: its name.
        renamed: new names of parameters.
    """
    signature = inspect.signature(call)
    by_position = [name for name, kind, _ in old if kind in POSITIONAL]
    only_position = sum(kind == "POSITIONAL_ONLY" for _, kind, _ in old)
    by_keyword = [name for name, kind, _ in old if kind == "KEYWORD_ONLY"]
    for count in range(only_position, len(by_position) + 1):
        keywords = {name: name for name in [*by_position[count:], *by_keyword]}
        bound = signature.bind(*by_position[:count], **keywords)
        for name, value in bound.arguments.items():
            if signature.parameters[name].kind.name not in ("VAR_KEYWORD", "VAR_POSITIONAL"):
                assert name in (value, renamed.get(value)), f"{where}: {value} arrives as {name}"
    required = [name for name, kind, default in old if kind in POSITIONAL and not default]
    signature.bind(*required, **{name: name for name, kind, default in old if kind == "KEYWORD_ONLY" and not default})
    for kind in ("VAR_POSITIONAL", "VAR_KEYWORD"):
        assert not any(one[1] == kind for one in old) or any(
            one.kind.name == kind for one in signature.parameters.values()
        ), where


@pytest.mark.parametrize("name", SNAPSHOT)
def test_what_0_1_had_is_accepted(name):
    value, old, now = getattr(api, name), SNAPSHOT[name], NOW[name]
    assert name in api.__all__
    renamed = RENAMED.get(name, {})
    if isinstance(old, dict):
        check_call(value, old["constructor"], name, renamed)
        for method, expected in old["methods"].items():
            check_call(getattr(value, method), expected, f"{name}.{method}", renamed)
        assert set(old["attributes"]) <= {*now["attributes"], *now["methods"]}
    elif old and isinstance(old[0], str):
        assert set(old) <= set(now)
    elif old is not None:
        check_call(value, old, name, renamed)


@pytest.mark.parametrize(
    "changed",
    [
        lambda first, other, *, last=0: None,  # another name
        lambda second, first, *, last=0: None,  # another order
        lambda first, second=0, *, last: None,  # no default any more
        lambda first, second, third, *, last=0: None,  # one more that is required
    ],
)
def test_a_change_that_breaks_a_caller_is_seen(changed):
    old = [
        ["first", "POSITIONAL_OR_KEYWORD", False],
        ["second", "POSITIONAL_OR_KEYWORD", True],
        ["last", "KEYWORD_ONLY", True],
    ]
    check_call(lambda first, second=0, third=0, *, last=0: None, old, "same", {})
    with pytest.raises((TypeError, AssertionError)):
        check_call(changed, old, "changed", {})
