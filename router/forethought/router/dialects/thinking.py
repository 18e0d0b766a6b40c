"""How much to think: ``reasoning_effort`` here, ``thinking`` and ``output_config`` there.

Models before Claude 4.6 think within a budget of tokens that ``max_tokens`` has to exceed;
later ones decide themselves (``adaptive``) and take an effort.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from forethought.router.dialects.base import Json, a_string, an_object, refused
from forethought.router.dialects.claude import (
    always_thinks,
    budget_model,
    takes_xhigh,
    thinking_off,
    thinks_by_default,
)

BUDGETS: Final[Mapping[str, int]] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 49_152,
}
"""Tokens of thinking by effort: from Anthropic's least, doubling, to what leaves a model with
64,000 output tokens room for its answer."""

MIN_BUDGET: Final = 1024
"""Anthropic refuses a smaller one."""

DEFAULT_ANSWER_TOKENS: Final = 8192
"""``max_tokens`` beside the budget where the client sets no limit: Anthropic requires one, and
every model since Claude 3.5 takes this."""


def least_thinking(model: str) -> int:
    """Tokens that a short answer of ``model`` needs on top, since it thinks in any case."""
    return BUDGETS["low"] if always_thinks(model) else 0


def limited(
    body: Mapping[str, Any], sent: Json, *, resumes_call: bool, warnings: list[str]
) -> None:
    """Put ``max_tokens`` and the effort of an OpenAI request ``body`` into ``sent``.

    Args:
        body: The chat-completion request.
        sent: The Messages request.
        resumes_call: The conversation goes on after a tool call whose thinking is not there;
            Anthropic then refuses to think.
        warnings: Takes what was changed.
    """
    limit = _limit(body)
    if limit is None:
        warnings.append("max_tokens: Anthropic requires it; it was not set")
    sent["max_tokens"] = DEFAULT_ANSWER_TOKENS if limit is None else limit
    model, effort = str(body.get("model")), body.get("reasoning_effort")
    if effort is not None and effort != "none" and effort not in tuple(BUDGETS):
        raise refused("reasoning_effort", f"is none of none, {', '.join(BUDGETS)}")
    room = 0  # to think, beside the answer
    if body.get("thinking") is not None:  # Anthropic's own word wins
        sent["thinking"] = thinking = an_object(body["thinking"], "thinking")
        budget = thinking.get("budget_tokens")
        room = budget if isinstance(budget, int) else 0
    elif effort == "none" and not always_thinks(model):
        sent["thinking"] = {"type": thinking_off(model)}
    elif effort is None:
        room = BUDGETS["high"] if thinks_by_default(model) else 0
    elif not budget_model(model):
        level = _known_effort(effort, model, warnings)
        room = BUDGETS[level]
        sent["thinking"] = {"type": "adaptive"}
        sent["output_config"] = {**sent.get("output_config", {}), "effort": level}
    elif resumes_call:
        warnings.append("reasoning_effort: left out after a tool call without its thinking")
    else:
        room = _budget(BUDGETS[effort], limit, sent, warnings)
    if limit is None:
        sent["max_tokens"] += room


def _known_effort(effort: str, model: str, warnings: list[str]) -> str:
    """The effort nearest to ``effort`` that a model without budgets knows."""
    if effort == "none":
        warnings.append(f"reasoning_effort: none became low, {model} always thinks")
        return "low"
    if effort == "minimal":
        warnings.append("reasoning_effort: minimal became low")
        return "low"
    if effort == "xhigh" and not takes_xhigh(model):
        warnings.append(f"reasoning_effort: xhigh became high, {model} does not know it")
        return "high"
    return effort


def _budget(budget: int, limit: int | None, sent: Json, warnings: list[str]) -> int:
    """Think within ``budget``, and within the client's ``limit``, which counts thinking too."""
    if limit is not None and limit <= MIN_BUDGET:
        warnings.append(f"reasoning_effort: left out, {limit} tokens leave no room to think")
        return 0
    if limit is not None and limit <= budget:
        budget = max(MIN_BUDGET, limit * 3 // 4)
        warnings.append(f"reasoning_effort: thinking is limited to {budget} tokens")
    sent["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return budget


def effort_of(body: Mapping[str, Any], warnings: list[str]) -> str | None:
    """The ``reasoning_effort`` that a Messages request asks for; None where it says nothing."""
    config = body.get("output_config")
    if config is not None:
        effort = an_object(config, "output_config").get("effort")
        if effort is not None:
            return a_string(effort, "output_config.effort")
    if body.get("thinking") is None:
        return None
    thinking = an_object(body["thinking"], "thinking")
    kind = thinking.get("type")
    if kind in ("disabled", "between_tools"):
        return "none"
    if kind == "enabled":
        budget = thinking.get("budget_tokens")
        if not isinstance(budget, int) or isinstance(budget, bool):
            raise refused("thinking.budget_tokens", "has to be a number")
        return next((name for name, tokens in BUDGETS.items() if budget <= tokens), "max")
    if kind != "adaptive":
        warnings.append(f"thinking.type: {kind!r} has no equal, the model decides")
    return None


def asks_thinking(body: Mapping[str, Any]) -> bool:
    """Whether a Messages request wants to be shown its thinking."""
    thinking = body.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") not in (
        None,
        "between_tools",
        "disabled",
    )


def _limit(body: Mapping[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        limit = body.get(name)
        if limit is not None:
            if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
                raise refused(name, "has to be a positive number")
            return limit
    return None
