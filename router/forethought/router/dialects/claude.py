"""What each Claude takes of thinking and sampling, judged by its name.

Anthropic's migration guides tell it model by model; a request that a model does not take is
answered by a 400. A name that is no Claude's is taken to be a server of its own kind.
"""

from __future__ import annotations

import re
from typing import Final

_NUMBERED: Final = r"claude-(?:opus|sonnet|haiku)-"
_BUDGET: Final = re.compile(
    rf"claude-(?:instant|v?[123]\b)|{_NUMBERED}4(?:[-.][0-5])?(?:-\d{{8}}|@|:|$)"
)
_4_6: Final = re.compile(rf"{_NUMBERED}4[-.]6")
_ALWAYS: Final = re.compile(r"claude-(?:fable|mythos)|claude-opus-5[-.]5")
_BETWEEN_TOOLS: Final = re.compile(r"claude-sonnet-5[-.]5")
_BY_DEFAULT: Final = re.compile(rf"{_NUMBERED}5")


def budget_model(model: str) -> bool:
    """Whether ``model`` thinks within a budget of tokens: those before Claude 4.6."""
    return _BUDGET.search(model) is not None


def always_thinks(model: str) -> bool:
    """Whether thinking cannot be turned off: Fable, Mythos, Opus 5.5."""
    return _ALWAYS.search(model) is not None


def thinks_by_default(model: str) -> bool:
    """Whether ``model`` thinks where the request says nothing of it: Claude 5 and later."""
    return always_thinks(model) or _BY_DEFAULT.search(model) is not None


def thinking_off(model: str) -> str:
    """The type of ``thinking`` that turns it off."""
    return "between_tools" if _BETWEEN_TOOLS.search(model) else "disabled"


def takes_xhigh(model: str) -> bool:
    """Whether ``model`` knows the effort ``xhigh``, which came with Claude 4.7."""
    return _4_6.search(model) is None


def takes_sampling(model: str) -> bool:
    """Whether ``model`` takes temperature, top_p and top_k: Claude 4.7 and later refuse them."""
    return "claude" not in model or budget_model(model) or _4_6.search(model) is not None
