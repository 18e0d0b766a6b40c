"""The models that are asked in turn where one fails before anything of its answer has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_PASSING: Final = frozenset({408, 429})
"""Beside 5xx. A 409, like all other 4xx, is about the request, which another model would get too.
"""


def fails(status: int) -> bool:
    """Whether a reply of this HTTP status says that the model, not the request, is at fault."""
    return status >= 500 or status in _PASSING


def following(model: str, models: tuple[str, ...]) -> tuple[str, ...]:
    """Which of the fallbacks ``models`` are asked after ``model``: of a list, those behind it."""
    return models[models.index(model) + 1 :] if model in models else models


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallbacks:
    """What is asked after a request's own model.

    ``models``: in this order. ``without_effort``: those that do not take the ``reasoning_effort``
    which the strategy added for the request's own model.
    """

    models: tuple[str, ...]
    without_effort: frozenset[str] = frozenset()

    def body(self, sent: Mapping[str, Any], model: str) -> dict[str, Any]:
        """The body ``sent`` to an earlier model, for ``model``."""
        body = {**sent, "model": model}
        if model in self.without_effort:
            body.pop("reasoning_effort", None)
        return body
