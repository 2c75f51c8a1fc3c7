from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_wb.errors import did_you_mean, nearest

NAMES = ["random", "inverse-block", "checkerboard", "malap", "dino", "mcl"]


@given(st.lists(st.text("abcdefgh-", min_size=1, max_size=9), min_size=1, max_size=8), st.data())
def test_a_choice_is_nearest_to_itself(choices, data):
    word = data.draw(st.sampled_from(choices))
    found = nearest(word, choices)
    assert found is None or found.strip("-") == word.strip("-") or found == word
    assert found == word


@given(st.sampled_from(["random", "inverse-block", "checkerboard"]), st.data())
def test_one_wrong_letter_is_forgiven(name, data):
    at = data.draw(st.integers(0, len(name) - 1))
    letter = data.draw(st.sampled_from(["", "q", "x"]))
    assert nearest(name[:at] + letter + name[at + 1 :], NAMES) == name


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("Inverse_Block", "inverse-block"),
        ("che", "checkerboard"),
        ("ch", None),
        ("transformer", None),
        ("", None),
        ("  ", None),
    ],
)
def test_nearest(word, expected):
    assert nearest(word, NAMES) == expected


def test_ties_go_to_the_first_in_the_alphabet_whatever_the_order():
    assert nearest("fold", ["folds", "foldb", "folda"]) == "folda"
    assert nearest("fold", ["folda", "folds", "foldb"]) == "folda"


def test_no_choices():
    assert nearest("random", []) is None


def test_did_you_mean():
    assert did_you_mean("randm", NAMES) == "; did you mean 'random'?"
    assert did_you_mean("zzz", NAMES) == ""
