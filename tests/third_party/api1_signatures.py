"""What ``ssl_wb.api`` offers, as JSON: ``python api1_signatures.py > api1-signatures.json``, with ssl-wb 0.1."""

from __future__ import annotations

import inspect
import json
from types import FunctionType, ModuleType
from typing import Any, get_args

Parameters = list[list[Any]]


def parameters(call: Any) -> Parameters:
    """Return name, kind and whether there is a default of each parameter."""
    return [
        [one.name, one.kind.name, one.default is not one.empty] for one in inspect.signature(call).parameters.values()
    ]


def _class(cls: type) -> dict[str, Any]:
    """Return the public methods and attributes of a class that are ssl-wb's own, inherited ones included."""
    own = [base for base in cls.__mro__ if base.__module__.startswith("ssl_wb")]
    methods: dict[str, Parameters] = {}
    attributes: set[str] = set(getattr(cls, "model_fields", ()))
    for base in own:
        annotated = vars(base).get("__annotations__", {})
        attributes |= {name for name in annotated if not name.startswith("_")}
        for name, value in vars(base).items():
            if name == "__call__" or not name.startswith(("_", "model_")):
                # A function that is annotated is the default of a field.
                if isinstance(value, FunctionType | classmethod | staticmethod) and name not in annotated:
                    methods.setdefault(name, parameters(getattr(cls, name)))
                else:
                    attributes.add(name)
    # "Protocol" and the like have a constructor that says nothing.
    protocol = getattr(cls, "_is_protocol", False)
    constructor = [] if protocol else parameters(cls)
    return {"constructor": constructor, "methods": methods, "attributes": sorted(attributes)}


def signatures(api: ModuleType) -> dict[str, Any]:
    """Return what is known of each name in ``api.__all__``; None for what comes from another library."""
    found: dict[str, Any] = {}
    for name in api.__all__:
        value = getattr(api, name)
        found[name] = None
        if inspect.isclass(value):
            found[name] = _class(value)
        elif isinstance(value, FunctionType) and value.__module__.startswith("ssl_wb"):
            found[name] = parameters(value)
        elif get_args(value) and all(isinstance(one, str) for one in get_args(value)):
            found[name] = sorted(get_args(value))  # a Literal
    return found


if __name__ == "__main__":
    from ssl_wb import api

    # One line for each name: what changes shows in a diff, and the file stays short.
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in signatures(api).items()]
    print("{\n" + ",\n".join(lines) + "\n}")
