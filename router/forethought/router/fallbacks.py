"""The models that are asked in turn where one fails before anything of its answer has come."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from forethought.router.dialects.base import Translated
from forethought.router.dialects.caching import unmarked
from forethought.router.dialects.to_anthropic import to_anthropic
from forethought.router.dialects.to_openai import to_openai
from forethought.router.errors import InvalidRequest

log = logging.getLogger(__name__)

_PASSING: Final = frozenset({408, 429})
"""Beside 5xx. A 409, like all other 4xx, is about the request, which another model would get too.
"""

_ANTHROPICS_OWN: Final = frozenset({"thinking_blocks", "anthropic_content"})
"""What replies of Claude have, and clients send back in its messages."""


def fails(status: int) -> bool:
    """Whether a reply of this HTTP status says that the model, not the request, is at fault."""
    return status >= 500 or status in _PASSING


def following(model: str, models: tuple[str, ...]) -> tuple[str, ...]:
    """Which of the fallbacks ``models`` are asked after ``model``: of a list, those behind it."""
    return models[models.index(model) + 1 :] if model in models else models


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallbacks:
    """What is asked after a request's own model, and how it is told.

    ``models``: in this order. ``effort_added``: the strategy added ``reasoning_effort`` for the
    request's own model; ``takes_effort``: which of the others take it too.
    ``speaks_anthropic``: those, the own among them, that are asked by the Messages API.
    ``native``: the request came in that form, and holds what only the form of chat completions
    for such models has words for.
    """

    models: tuple[str, ...]
    effort_added: bool = False
    takes_effort: frozenset[str] = frozenset()
    speaks_anthropic: frozenset[str] = frozenset()
    native: bool = False

    def after(self, model: str, first: Mapping[str, Any]) -> Translated | None:
        """What is asked after ``model``; None where none is left that can be asked this.

        ``first`` is the body for the request's own model.
        """
        return next(self._asked(following(model, self.models), first), None)

    def bodies(self, first: Mapping[str, Any]) -> list[dict[str, Any]]:
        """All that may be asked after ``first``."""
        return [asked.body for asked in self._asked(self.models, first)]

    def _asked(self, models: tuple[str, ...], first: Mapping[str, Any]) -> Iterator[Translated]:
        for model in models:
            try:
                yield self._told(first, model)
            except InvalidRequest as error:
                log.warning("%s cannot be asked this: %s", model, error)

    def _told(self, first: Mapping[str, Any], model: str) -> Translated:
        done = Translated({**first, "model": model})
        if self.effort_added and model not in self.takes_effort:
            del done.body["reasoning_effort"]
            done.warnings.append(f"reasoning_effort is not for {model}, which answers instead")
        if model in self.speaks_anthropic:
            to_anthropic(done.body)  # what it refuses, another may be asked
            return done
        if self.native:
            return self._retold(done, model)
        if first["model"] in self.speaks_anthropic:
            done.body = _without_anthropics_own(done.body)
        return done

    def _retold(self, asked: Translated, model: str) -> Translated:
        """A Messages request for Anthropic's models, as one for those of others."""
        done = to_openai(to_anthropic(asked.body).body, takes_effort=model in self.takes_effort)
        for name in ("stream", "stream_options"):
            if name in asked.body:
                done.body[name] = asked.body[name]
        done.warnings[:0] = asked.warnings
        return done


def _without_anthropics_own(body: dict[str, Any]) -> dict[str, Any]:
    messages = [
        {name: value for name, value in message.items() if name not in _ANTHROPICS_OWN}
        if _ANTHROPICS_OWN & message.keys()
        else message
        for message in body["messages"]
    ]
    return unmarked({**body, "messages": messages})
