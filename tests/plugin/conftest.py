"""Plugins made up on the spot: a file on the import path and an entry point that names it."""

from __future__ import annotations

import importlib
import itertools
import sys
from importlib.metadata import EntryPoint
from textwrap import dedent, indent
from types import SimpleNamespace

import pytest

_numbers = itertools.count()

MASKER = '''
from ssl_wb.api import Masker, PluginOptions, Field, hookimpl

class Sample(Masker):
    """Masks nothing at all.

    A second paragraph.
    """

    name = "{name}"

    def __call__(self, request):
        return ()

@hookimpl
def ssl_wb_maskers():
    return [Sample]
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Make an entry point whose module holds ``source``."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def make(name: str, source: str, *, distribution: str = "sample-plugins", value: str | None = None) -> EntryPoint:
        module = f"made_up_plugin_{next(_numbers)}"
        (tmp_path / f"{module}.py").write_text(dedent(source), encoding="utf-8")
        made.append(module)
        importlib.invalidate_caches()  # the folder was listed before this file was in it
        entry_point = EntryPoint(name, value or module, "ssl_wb")
        return entry_point._for(SimpleNamespace(name=distribution, version="1.2"))

    yield make
    for module in made:
        sys.modules.pop(module, None)


@pytest.fixture
def masker(plugin):
    """Make a working plugin that offers one masker, its entry point named after it."""

    def make(name: str = "sample", **more) -> EntryPoint:
        return plugin(more.pop("entry_point", name), MASKER.format(name=name), **more)

    return make


@pytest.fixture
def masker_class(plugin):
    """Make a plugin whose masker class has ``body``, apart from its base and its hook."""

    def make(body: str, *, base: str = "Masker", hook: str = "ssl_wb_maskers") -> EntryPoint:
        source = "from ssl_wb.api import *\nfrom ssl_wb.api import hookimpl\n"
        source += f"class Sample({base}):\n{indent(dedent(body), '    ')}\n"
        source += f"@hookimpl\ndef {hook}():\n    return [Sample]\n"
        return plugin("sample", source)

    return make
