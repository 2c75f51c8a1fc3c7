"""One grammar for maskers on a command line, of `preview --masker` and `bench --maskers`."""

from __future__ import annotations

import pytest

from ssl_wb.recipe.overrides import MaskerArgument, parse_maskers


def test_names_and_options():
    assert parse_maskers("random, sgim:layer=3,start=0,dwm") == [
        MaskerArgument("random", "random"),
        MaskerArgument("sgim:layer=3,start=0", "sgim", ("layer=3", "start=0")),
        MaskerArgument("dwm", "dwm"),
    ]


def test_values_are_toml_or_text():
    (one,) = parse_maskers("m:pair=[1,2],name='a,b',table={x = 1, y = 2},mode=soft,time=a:b")
    assert one.options == {"pair": [1, 2], "name": "a,b", "table": {"x": 1, "y": 2}, "mode": "soft", "time": "a:b"}


@pytest.mark.parametrize("text", ["", "layer=3", "dwm,,ibm", "dwm:hint", "dwm:=1", ":a=1", "dwm,=1"])
def test_mistakes(text):
    with pytest.raises(ValueError, match=r"expected name|comes before"):
        parse_maskers(text)
