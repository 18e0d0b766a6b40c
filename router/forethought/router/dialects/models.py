"""The list of models: Anthropic's as OpenAI's, and as Anthropic's clients expect it, in pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from forethought.router.dialects.base import Json, refused

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 1000
"""Anthropic's own."""

_OPENAIS: Final = frozenset({"object", "created", "owned_by"})


def openai_models(listed: Mapping[str, Any]) -> Json:
    """Anthropic's list as OpenAI's; what only Anthropic says of a model stays beside it."""
    models = [
        {
            **model,
            "object": "model",
            "created": _seconds(model.get("created_at")),
            "owned_by": "anthropic",
        }
        for model in listed.get("data") or ()
        if isinstance(model, dict)
    ]
    return {"object": "list", "data": models}


def anthropic_model(model: Mapping[str, Any]) -> Json:
    """A model of OpenAI's list as Anthropic's; what the upstream says of it stays."""
    said = {name: value for name, value in model.items() if name not in _OPENAIS}
    made = {
        "type": "model",
        "display_name": str(model.get("id")),
        "created_at": _when(model.get("created")),
        "lifecycle": "active",
    }
    return {"id": model.get("id"), **made, **said}


def models_page(models: Sequence[Mapping[str, Any]], query: Mapping[str, str]) -> Json:
    """One page of ``models``.

    Args:
        models: All of them, in OpenAI's form.
        query: ``limit``, ``after_id`` and ``before_id``, where given.

    Raises:
        InvalidRequest: A value cannot be used, or no model has the id.
    """
    limit = _limit(query.get("limit"))
    found = [anthropic_model(model) for model in models]
    names = [str(model["id"]) for model in found]
    first, end = 0, len(found)
    if (after := query.get("after_id")) is not None:
        first = _place(names, after, "after_id") + 1
    if (before := query.get("before_id")) is not None:
        end = _place(names, before, "before_id")
        page, more = found[max(first, end - limit) : end], end - limit > first
    else:
        page, more = found[first : first + limit], first + limit < end
    return {
        "data": page,
        "has_more": more,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def _place(names: Sequence[str], name: str, param: str) -> int:
    if name not in names:
        raise refused(param, f"names no model of the list: {name!r}")
    return names.index(name)


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not text.isdecimal() or not 1 <= int(text) <= MAX_LIMIT:
        raise refused("limit", f"has to be a number from 1 to {MAX_LIMIT}")
    return int(text)


def _seconds(when: Any) -> int:
    try:
        return int(datetime.fromisoformat(when).timestamp())
    except (TypeError, ValueError):
        return 0


def _when(created: Any) -> str:
    """Seconds as RFC 3339; the epoch where they are unknown, as Anthropic has it."""
    known = isinstance(created, int | float) and not isinstance(created, bool)
    try:
        when = datetime.fromtimestamp(created if known else 0, UTC)
    except (OverflowError, OSError, ValueError):
        when = datetime.fromtimestamp(0, UTC)
    return when.isoformat().replace("+00:00", "Z")
