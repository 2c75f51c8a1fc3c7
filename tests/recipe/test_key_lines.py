"""Lines of keys: what tomli does not tell."""

from __future__ import annotations

import string

import tomli
from hypothesis import given
from hypothesis import strategies as st

from ssl_wb.recipe.tree import key_lines

DOCUMENT = '''\
# a = 1
title = "a # [not] = a comment"
text = """
[fake]
x = 1
"""
dotted.inner."quo.ted" = 1
[data]  # the data
train = 'a'
list = [
  1, # one
  [2, 3],
]
inline = { a = 1, b = { c = 2 } }
[data.scenes]
clips = 20

[[objective]]
name = "mcl"
[objective.extra]
deep = 1.5
[[objective]]
name = "dino"
'''


def test_lines_of_a_document_with_all_kinds_of_keys():
    lines = key_lines(DOCUMENT)
    tomli.loads(DOCUMENT)
    assert lines == {
        ("title",): 2,
        ("text",): 3,
        ("dotted",): 7,
        ("dotted", "inner"): 7,
        ("dotted", "inner", "quo.ted"): 7,
        ("data",): 8,
        ("data", "train"): 9,
        ("data", "list"): 10,
        ("data", "inline"): 14,
        ("data", "scenes"): 15,
        ("data", "scenes", "clips"): 16,
        ("objective",): 18,
        ("objective", 0): 18,
        ("objective", 0, "name"): 19,
        ("objective", 0, "extra"): 20,
        ("objective", 0, "extra", "deep"): 21,
        ("objective", 1): 22,
        ("objective", 1, "name"): 23,
    }


def test_windows_line_ends_count_once():
    assert key_lines("a = 1\r\n\r\n[b]\r\nc = 2\r\n") == {("a",): 1, ("b",): 3, ("b", "c"): 4}


KEYS = st.text(string.ascii_lowercase + string.digits + "-_", min_size=1, max_size=4)
VALUES = st.one_of(
    st.integers(-9, 9).map(str),
    st.text(string.printable, max_size=8).map(lambda text: "'''\n" + text.replace("'", "").replace("\r", "") + "'''"),
    st.sampled_from(['"#"', '"\\""', "[1, 2]", "[\n 1, # [ \n]", "{ a = '=' }", "1979-05-27T07:32:00Z", "-inf"]),
)


@given(st.lists(st.tuples(KEYS, VALUES), unique_by=lambda pair: pair[0], max_size=8))
def test_every_key_is_found_on_the_line_where_it_begins(pairs):
    text, expected = "", {}
    for key, value in pairs:
        expected[(key,)] = text.count("\n") + 1
        text += f"{key} = {value}\n"
    try:
        tomli.loads(text)
    except tomli.TOMLDecodeError:
        return  # control characters
    assert key_lines(text) == expected
