"""What every translation shares: its result, its warnings and its refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from forethought.router.errors import InvalidRequest

Json = dict[str, Any]

WARNING_HEADER: Final = "x-forethought-warning"
"""Names what of a request the upstream does not get as it was sent."""

MAX_HEADER: Final = 1000
"""Characters of warnings in a header: servers refuse headers of some thousand bytes."""


@dataclass(slots=True)
class Translated:
    """A translated request, and what of it was changed or left out, in plain words.

    ``asked`` is how many blocks at the end of the last turn are the query alone, where that
    turn holds more (a document before it, for instance); 0 where it does not.
    """

    body: Json
    warnings: list[str] = field(default_factory=list)
    asked: int = 0


def refused(param: str, why: str, remedy: str | None = None) -> InvalidRequest:
    """The error for a field that has no translation."""
    return InvalidRequest(f"'{param}' {why}.", param=param, remedy=remedy)


def warning_header(warnings: list[str]) -> dict[str, str]:
    """The header that reports ``warnings``; none where there are none."""
    if not warnings:
        return {}
    return {WARNING_HEADER: header_text("; ".join(dict.fromkeys(warnings)))[:MAX_HEADER]}


def header_text(text: str) -> str:
    """``text`` as a header can hold it: one line of ASCII, no control characters."""
    line = " ".join(text.split()).encode("ascii", "replace").decode()
    return "".join(one if one.isprintable() else "?" for one in line)


def objects(value: Any, param: str) -> list[Json]:
    """``value`` as a list of objects; nothing is an empty list."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise refused(param, "has to be a list of objects")
    return value


def an_object(value: Any, param: str) -> Json:
    """``value`` as an object."""
    if not isinstance(value, dict):
        raise refused(param, "has to be an object")
    return value


def a_string(value: Any, param: str) -> str:
    """``value`` as a string."""
    if not isinstance(value, str):
        raise refused(param, "has to be a string")
    return value


def count(value: Any, name: str) -> int:
    """The non-negative number ``name`` of an object that may be missing."""
    found = value.get(name) if isinstance(value, Mapping) else None
    return max(0, found) if isinstance(found, int) else 0


def cache_mark(source: Mapping[str, Any]) -> Json:
    """The cache mark of a part, a block or a tool, to be put into its translation."""
    mark = source.get("cache_control")
    return {} if mark is None else {"cache_control": mark}
