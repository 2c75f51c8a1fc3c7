"""Maskers as typed on a command line: ``random,dwm,sgim:layer=3,start=0``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ssl_wb.recipe.overrides import parse_value

__all__ = ["MaskerArgument", "parse_maskers"]


@dataclass(frozen=True)
class MaskerArgument:
    """One masker as typed.

    Attributes:
        text: the masker and its options, as typed.
        name: of the masker.
        settings: ``key=value`` texts.
    """

    text: str
    name: str
    settings: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The settings as option values; a value is read as TOML, and as text where it is not TOML."""
        pairs = (setting.partition("=") for setting in self.settings)
        return {key.strip(): parse_value(value) for key, _, value in pairs}


def parse_maskers(text: str) -> list[MaskerArgument]:
    """Read ``NAME`` or ``NAME:KEY=VALUE,KEY=VALUE``, several separated by commas.

    A piece between commas that has ``=`` and no name in front is an option of the masker before it.

    Raises:
        ValueError: an option without a masker, an empty name, or an option that is not ``KEY=VALUE``.
    """
    arguments: list[MaskerArgument] = []
    for piece in _split(text):
        name, _, option = piece.partition(":")
        continues = "=" in name
        if continues:
            option = piece  # the colon, if any, is part of the value
            if not arguments:
                raise ValueError(f"option {piece!r} comes before any masker")
        elif not name.strip():
            raise ValueError(f"expected name or name:key=value,key=value, found {piece!r}")
        key, equals, _ = option.partition("=")
        if option.strip() and not (equals and key.strip()):
            raise ValueError(f"expected name:key=value,key=value, found {option.strip()!r} behind the name")
        if continues:
            last = arguments[-1]
            arguments[-1] = MaskerArgument(f"{last.text},{piece}", last.name, (*last.settings, option))
        else:
            arguments.append(MaskerArgument(piece, name.strip(), (option,) if option.strip() else ()))
    return arguments


def _split(text: str) -> list[str]:
    """Split at commas outside brackets and quotes, so that a value may be a TOML array, table or string."""
    pieces, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        elif letter == "," and depth == 0:
            pieces.append("")
            continue
        pieces[-1] += letter
    return [piece.strip() for piece in pieces]
