"""Reading ``.pt`` files without running code: torch's restricted reader, and stand-ins for a few classes."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from ssl_wb.errors import DataError

__all__ = ["StandIn", "load_pickled"]

#: Classes that releases store beside their tensors, as regular expressions. They carry settings and records of
#: training. Each is replaced by an empty stand-in: the library they are from is neither needed nor imported.
HARMLESS = (r"argparse\.Namespace", r"fairseq\.[\w.]+", r"omegaconf\.[\w.]+", r"typing\.Any", r"pathlib\.\w*Path")
#: How torch's restricted reader names a class that it does not allow.
REFUSED = re.compile(r"GLOBAL ([\w.]+)")
#: Most stand-ins that one file may need.
MOST = 64


class StandIn:
    """Takes the place of a class in a pickle: accepts any arguments and state, and does nothing."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        del arguments, named

    def __new__(cls, *arguments: Any, **named: Any) -> StandIn:
        """Make an empty object, whatever the class takes."""
        del arguments, named
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Keep the attributes of a plain state; anything else is dropped."""
        if isinstance(state, dict):
            vars(self).update({key: value for key, value in state.items() if isinstance(key, str)})


def _plain(value: Any) -> Any:
    """Replace stand-ins by the dictionaries of their attributes, so that the settings in them can be read.

    The configurations of omegaconf keep their content below ``_content`` and each value below ``_val``.
    """
    if isinstance(value, StandIn):
        state = vars(value)
        return _plain(state.get("_content", state.get("_val", state)))
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value


def _stand_in(name: str) -> tuple[type[StandIn], str]:
    """Return a stand-in for the class ``module.name`` as torch registers it."""
    return type(name.rpartition(".")[2], (StandIn,), {}), name


def load_pickled(path: Path) -> Any:
    """Return the content of a file that ``torch.save`` wrote: tensors and plain values.

    Args:
        path: the file.

    Raises:
        DataError: it would run code, is damaged or incomplete, or is no such file.
    """
    allowed: dict[str, tuple[type[StandIn], str]] = {}
    while True:
        try:
            with torch.serialization.safe_globals(list(allowed.values())):
                return _plain(torch.load(path, map_location="cpu", weights_only=True))
        except pickle.UnpicklingError as error:
            found = REFUSED.search(str(error))
            name = found.group(1) if found else ""
            if not name:
                raise _damaged(path, error) from error
            if name in allowed or len(allowed) > MOST or not any(re.fullmatch(one, name) for one in HARMLESS):
                raise DataError(
                    f"{path}: not read, because loading it would run code: it names {name}",
                    hint="only tensors and plain values are read. If you trust the file, load it with the authors' "
                    "code and save the state dict alone, best as .safetensors",
                ) from error
            allowed[name] = _stand_in(name)
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    """Return the error for a file that cannot be read."""
    first = " ".join(str(error).split())[:160] or type(error).__name__
    return DataError(
        f"{path}: cannot be read as a checkpoint ({first})",
        hint="the file is incomplete or damaged, or is no torch file: download it again",
    )
