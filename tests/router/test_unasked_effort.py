"""Words about effort are added unasked only where a short answer can serve."""

from __future__ import annotations

import pytest

from forethought.router.context import split
from forethought.router.strategies import Request
from forethought.router.strategies.effort import unasked_reason

SYSTEM = {"role": "system", "content": "Tom has 3 boxes with 8 pens each."}


@pytest.mark.parametrize(
    ("messages", "native", "expected"),
    [
        pytest.param([SYSTEM, "How many pens?"], False, None, id="question on a context"),
        pytest.param([SYSTEM, "Write a poem on pens."], False, "no question", id="no question"),
        pytest.param(["How many pens?"], False, "without a context", id="no context"),
        pytest.param(["Write a poem."], True, None, id="the model takes effort itself"),
    ],
)
def test_words_about_effort_are_kept_to_questions_on_a_context(
    messages: list[object], native: bool, expected: str | None
) -> None:
    chat = [{"role": "user", "content": m} if isinstance(m, str) else m for m in messages]
    body = {"messages": chat}
    cut = split(body, known=lambda _: False, shared=lambda _: False)
    why = unasked_reason(Request(body=body, split=cut, native_effort=native))
    assert why is None if expected is None else why is not None and expected in why
