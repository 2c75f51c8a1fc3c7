"""What is wrong with a plugin is found, said and kept from the others."""

from __future__ import annotations

import sys

import pytest

from ssl_wb.api import API_VERSION
from ssl_wb.errors import PluginError
from ssl_wb.plugin.discovery import discover
from ssl_wb.plugin.kinds import KINDS


def only(entry_point, **options):
    """Return the one record of one plugin."""
    (record,) = discover([entry_point], **options).records
    return record


def test_a_working_plugin(masker):
    record = only(masker("sample"))
    assert (record.kind, record.name, record.distribution, record.version) == (
        *("masker", "sample", "sample-plugins", "1.2"),
    )
    assert (record.status, record.error) == ("active", "")
    assert record.summary == "Masks nothing at all."
    assert record.plugin is not None
    assert record.plugin.name == "sample"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("raise RuntimeError('no such\\nluck')", "RuntimeError: no such luck (made_up_plugin_"),
        ("import sys; sys.exit(7)", "SystemExit: 7"),
        ("import a_library_nobody_has", "ModuleNotFoundError: No module named 'a_library_nobody_has'"),
        ("def broken(:", "SyntaxError: "),
        ("x = 1", "implements no hook; mark a function such as ssl_wb_maskers with @hookimpl"),
        ("def ssl_wb_maskers(): return []", "implements no hook"),
        ("API_VERSION = '2'\n", "API_VERSION is '2'; it must be a whole number such as 1"),
    ],
)
def test_a_module_that_cannot_be_used(plugin, masker, source, expected):
    found = discover([plugin("wrong", source), masker("fine")]).records
    by_name = {record.name: record for record in found}
    assert by_name["fine"].status == "active"
    wrong = by_name["wrong"]
    assert (wrong.kind, wrong.status, wrong.plugin) == (None, "broken", None)
    assert expected in wrong.error
    assert "\n" not in wrong.error


def test_the_place_of_a_failure_is_the_plugins_line(plugin):
    assert only(plugin("wrong", "x = 1\n\n1 / 0\n")).error.endswith(".py:3)")


def test_an_entry_point_must_name_a_module(plugin):
    record = only(plugin("wrong", "", value="os:getcwd"))
    assert (record.status, record.error) == (
        *("broken", "entry point value 'os:getcwd' names no module; drop the part after ':'"),
    )


HOOK = "from ssl_wb.api import hookimpl\n@hookimpl\ndef {name}({arguments}):\n    {body}\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ssl_wb_masker", "unknown hook 'ssl_wb_masker'; did you mean 'ssl_wb_maskers'?"),
        ("zzz", "unknown hook 'zzz'; hooks: ssl_wb_maskers, ssl_wb_objectives, "),
    ],
)
def test_a_misspelt_hook(plugin, name, expected):
    record = only(plugin("wrong", HOOK.format(name=name, arguments="", body="return []")))
    assert record.status == "broken"
    assert record.error.startswith(expected)


def test_a_hook_with_arguments_that_do_not_exist(plugin):
    record = only(plugin("wrong", HOOK.format(name="ssl_wb_maskers", arguments="config", body="return []")))
    assert record.status == "broken"
    assert "config" in record.error


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("raise KeyError('mels')", "KeyError: 'mels' (made_up_plugin_"),
        ("raise SystemExit(1)", "SystemExit: 1"),
        ("return None", "ssl_wb_maskers returned None, not a list of classes"),
        ("return int", "ssl_wb_maskers returned <class 'int'>, not a list of classes"),
        ("return 'random'", "ssl_wb_maskers returned 'random', not a list of classes"),
        ("return ['random']", "ssl_wb_maskers returned 'random', which is not a class"),
        ("return [int]", "ssl_wb_maskers returned int, which is not a subclass of ssl_wb.api.Masker"),
        ("yield 1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_hook_that_fails(plugin, body, expected):
    record = only(plugin("wrong", HOOK.format(name="ssl_wb_maskers", arguments="", body=body)))
    assert (record.kind, record.status) == ("masker", "broken")
    assert record.error.startswith(expected)


def test_a_hook_that_raises_leaves_the_plugins_other_hooks_alone(plugin, masker):
    from_file = HOOK.format(name="ssl_wb_objectives", arguments="", body="raise OSError('gone')")
    good = "\nfrom ssl_wb.api import Masker\nclass Fine(Masker):\n    'Fine.'\n    name = 'fine'\n"
    good += "    def __call__(self, request): return ()\n"
    good += "@hookimpl\ndef ssl_wb_maskers():\n    return [Fine]\n"
    found = discover([plugin("half", from_file + good), masker("other")]).records
    assert {(record.kind, record.name, record.status) for record in found} == {
        ("objective", "half", "broken"),
        ("masker", "fine", "active"),
        ("masker", "other", "active"),
    }


CALL = "def __call__(self, request): return ()\n"


@pytest.mark.parametrize(
    ("body", "name", "expected"),
    [
        ("'Doc.'\nname = 'x'", "x", "Sample does not implement __call__"),
        (
            f"'Doc.'\n{CALL}",
            "Sample",
            "Sample.name is None; it must be a kebab-case string such as 'my-masker'",
        ),
        (f"'Doc.'\nname = 'My_Mask'\n{CALL}", "My_Mask", "Sample.name is 'My_Mask'; it must be a kebab-case"),
        (f"'Doc.'\nname = 'a/b'\n{CALL}", "a/b", "Sample.name is 'a/b'; it must be a kebab-case"),
        (f"name = 'x'\n{CALL}", "x", "Sample has no docstring; its first paragraph is the summary"),
        (
            f"'Doc.'\nname = 'x'\nOptions = dict\n{CALL}",
            "x",
            "Sample.Options must be a subclass of ssl_wb.api.",
        ),
        (
            f"'Doc.'\nname = 'x'\n{CALL}class Options(PluginOptions):\n    name: str = 'a'\n",
            *("x", "Sample.Options has 'name', a key of the recipe's own; rename the option"),
        ),
        (
            f"'Doc.'\nname = 'x'\n{CALL}class Options(PluginOptions):\n    ratio: float = Field(1.5, lt=1.0)\n",
            *("x", "Sample.Options: the default of ratio breaks its own bounds: Input should be less than 1"),
        ),
        (
            f"'Doc.'\nname = 'x'\n{CALL}class Options(PluginOptions):\n    needed: int\n    size: int = 'large'\n",
            *("x", "Sample.Options: the default of size breaks its own bounds: Input should be a valid integer"),
        ),
    ],
)
def test_a_class_that_is_not_whole(masker_class, body, name, expected):
    record = only(masker_class(body))
    assert (record.kind, record.name, record.status) == ("masker", name, "broken")
    assert record.error.startswith(expected)


def test_a_class_of_another_kind(masker_class):
    record = only(masker_class(f"'Doc.'\nname = 'x'\n{CALL}", hook="ssl_wb_evaluators"))
    expected = "ssl_wb_evaluators returned Sample, which is not a subclass of ssl_wb.api.Evaluator"
    assert (record.kind, record.error) == ("evaluator", expected)


def test_keys_of_the_workbench_are_no_options():
    assert {kind: KINDS[kind].own_keys for kind in ("masker", "objective", "backbone", "evaluator")} == {
        "masker": {"name"},
        "objective": {"name", "weight"},
        "backbone": {"name"},
        "evaluator": {"name", "task", "metric", "every", "every_clips", "allow_leaks", "pooling"},
    }


def test_one_distribution_cannot_offer_a_name_twice(masker):
    first, second = discover([masker("same", entry_point="a"), masker("same", entry_point="b")]).records
    assert (first.status, first.entry_point) == ("active", "a")
    assert (second.status, second.error) == ("broken", "sample-plugins offers masker 'same' twice")


def test_too_new(plugin):
    record = only(plugin("later", f"API_VERSION = {API_VERSION + 1}\n"))
    assert (record.kind, record.name, record.status) == (None, "later", "incompatible")
    assert record.error.startswith(f"needs plugin API {API_VERSION + 1}, this ssl-wb has {API_VERSION}:")


def test_too_new_is_told_before_the_import_that_fails_because_of_it(plugin):
    source = f"from ssl_wb.api import TimeTravel\nAPI_VERSION = {API_VERSION + 1}\n"
    assert only(plugin("later", source)).status == "incompatible"
    assert only(plugin("now", "from ssl_wb.api import TimeTravel\nAPI_VERSION = 1\n")).status == "broken"


def test_an_older_or_equal_contract_is_fine(plugin):
    source = "from ssl_wb.api import hookimpl\n@hookimpl\ndef ssl_wb_maskers(): return []\nAPI_VERSION = {}\n"
    assert discover([plugin("old", source.format(0)), plugin("same", source.format(API_VERSION))]).records == []


@pytest.mark.parametrize("name", ["some-entry", "Some_Entry", "sample.plugins", "sample-plugins/some-entry"])
def test_a_blocked_plugin_is_not_even_imported(plugin, name):
    entry_point = plugin("some-entry", "raise RuntimeError")
    record = only(entry_point, blocked=[name])
    assert (record.kind, record.name, record.status) == (None, "some-entry", "blocked")
    assert record.error == "blocked by SSL_WB_BLOCK_PLUGINS"
    assert entry_point.value not in sys.modules


def test_strict_raises_with_the_plugins_own_exception_as_cause(plugin):
    with pytest.raises(PluginError, match=r"plugin 'wrong' \(sample-plugins 1.2\) is broken: KeyError") as caught:
        discover([plugin("wrong", "{}['x']")], strict=True)
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.exit_code == 4
    with pytest.raises(PluginError, match="is incompatible: needs plugin API 99"):
        discover([plugin("later", "API_VERSION = 99")], strict=True)


def test_what_a_plugin_prints_goes_to_stderr(plugin, capsys):
    discover([plugin("loud", "print('hello')")])
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


RECIPES = "from ssl_wb.api import hookimpl\n@hookimpl\ndef ssl_wb_recipes():\n    return [{!r}]\n"


def test_recipes_of_a_plugin(plugin, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("title = 'mine'")
    found = discover([plugin("some", RECIPES.format(str(path)))])
    assert (found.records, found.recipes) == ([], [("sample-plugins", path)])


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_recipes_that_are_not_there(plugin, tmp_path, name):
    found = discover([plugin("some", RECIPES.format(str(tmp_path / name)))])
    assert found.recipes == []
    (record,) = found.records
    assert (record.kind, record.status) == (None, "broken")
    assert record.error.endswith("which is not a .toml file on disk")


def test_a_distribution_without_metadata_does_not_break_the_rest(masker):
    entry_point = masker("lost")
    vars(entry_point)["dist"] = None
    assert only(entry_point).qualified == "unknown/lost"
