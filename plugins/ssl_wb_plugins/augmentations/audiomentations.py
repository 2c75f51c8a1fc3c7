"""The waveform transforms of audiomentations, each by its class name in kebab-case."""

from __future__ import annotations

import importlib
import inspect
import re
import typing
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, create_model

from ssl_wb.api import Augmentation, DataError, Plugin, PluginOptions, hookimpl

#: Classes that wrap other transforms or functions, which a recipe cannot write down.
_WRAPPERS = frozenset({"Lambda"})


class _AnyOptions(PluginOptions):
    """Options that cannot be checked, because the library is not installed."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Audiomentations(Augmentation):
    """Any waveform transform of audiomentations, by its class name in kebab-case (`time-stretch`, `add-gaussian-snr`).

    Its options are the keyword arguments of the class. Where the library is not installed, recipes that name its
    transforms can still be read, so that the encoder of a run can be used; training says what to install.
    """

    name = "audiomentations"
    reference = "github.com/iver56/audiomentations"
    is_library = True

    @classmethod
    def library_plugin(cls, name: str) -> type[Plugin] | None:
        """Return the plugin of one transform; of any name where the library is not installed."""
        known = library()
        return _plugin_of(name) if known is None or name in known else None

    @classmethod
    def library_names(cls) -> Iterable[str]:
        """Return the names of all transforms."""
        return library() or ()

    def __init__(self, options: PluginOptions, sample_rate: int) -> None:
        super().__init__(options, sample_rate)
        known = library()
        if known is None:
            raise ValueError("needs audiomentations, which is not installed: pip install 'ssl-wb[augment]'")
        self._transform = known[self.name](**options.model_dump())
        self._try_out()

    def _try_out(self) -> None:
        """Apply it once to a second of noise, so that what it lacks (another package, a sound) is said at once."""
        usual, self._transform.p = self._transform.p, 1.0
        noise = np.random.standard_normal(self.sample_rate).astype(np.float32)  # [S]
        try:
            self._transform(0.1 * noise, self.sample_rate)
        finally:
            self._transform.p = usual

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Augment ``[L]``.

        Raises:
            DataError: the transform failed, or made values that are not finite.
        """
        try:
            augmented: NDArray[np.float32] = self._transform(samples, self.sample_rate)
            fault = None if np.isfinite(augmented).all() else "it made numbers that are not finite"
        except Exception as error:  # of a library: whatever it may be
            fault = f"{type(error).__name__}: {error}"
        if fault:
            raise DataError(
                f"augmentation {self.name!r} failed on a crop of {len(samples)} samples: {fault}",
                hint="Take it out of data.augment, or change its options.",
            )
        return augmented


@cache
def library() -> dict[str, type[Any]] | None:
    """Return audiomentations' waveform transforms by name in kebab-case; None where it is not installed.

    It is imported here and only when a recipe names one of its classes: the import takes seconds.
    """
    try:
        module = importlib.import_module("audiomentations")
        base = importlib.import_module("audiomentations.core.transforms_interface").BaseWaveformTransform
    except ImportError:
        return None
    classes = [one for one in vars(module).values() if inspect.isclass(one) and issubclass(one, base)]
    # In kebab-case: AddGaussianSNR is "add-gaussian-snr", Mp3Compression "mp3-compression".
    words = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
    return {words.sub("-", one.__name__).lower(): one for one in classes if one.__name__ not in _WRAPPERS}


@cache
def _plugin_of(name: str) -> type[Audiomentations]:
    """Make the plugin of one transform."""
    known = library()
    attributes = {
        "__doc__": f"The transform {name!r} of audiomentations.",
        "name": name,
        "is_library": False,
        "Options": _AnyOptions if known is None else options_model(name),
    }
    return type(f"Audiomentations_{name.replace('-', '_')}", (Audiomentations,), attributes)


@cache
def options_model(name: str) -> type[PluginOptions]:
    """Return the options of a transform: the keyword arguments of its constructor, with their types and defaults.

    Args:
        name: one of :func:`library`.
    """
    transform = (library() or {})[name]
    hints = typing.get_type_hints(transform.__init__)
    fields: dict[str, Any] = {}
    for key, parameter in list(inspect.signature(transform.__init__).parameters.items())[1:]:
        annotation = _annotation(hints.get(key), parameter.default)
        if parameter.kind is parameter.VAR_KEYWORD or annotation is None:
            continue
        default: Any = ... if parameter.default is parameter.empty else parameter.default
        fields[key] = (annotation, Field(default, ge=0.0, le=1.0) if key == "p" else default)

    class Options(PluginOptions):
        """Options of the transform."""

        model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, protected_namespaces=())

    return create_model(f"{transform.__name__}Options", __base__=Options, **fields)


def _annotation(hint: Any, default: Any) -> Any:
    """Return the type of an option; None for functions, which no recipe can hold."""
    if hint is None:  # not annotated: take the default's type
        return Any if default in (None, inspect.Parameter.empty) else type(default)
    parts = [hint, *typing.get_args(hint)]
    if any((typing.get_origin(part) or part) is Callable for part in parts):
        return None
    return hint | None if default is None else hint


@hookimpl
def ssl_wb_augmentations() -> list[type[Augmentation]]:
    """Offer the library."""
    return [Audiomentations]
