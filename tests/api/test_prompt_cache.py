"""What a provider's prompt cache sees: the stable prefix, the same with and without what was
learned about it, and marks only where the client set none.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Serve
from tests.api.server import ApiServer
from tests.api.test_contexts import learn
from tests.fake_anthropic import FakeAnthropic, message
from tests.fake_upstream import FakeUpstreamServer

END = "the last words"
DOCUMENT = f"Janet has ducks that lay 16 eggs a day, and these are {END}"
MARK = {"type": "ephemeral"}
MARKED = f'{END}","cache_control":{{"type":"ephemeral"}}}}'
QUERY = {"role": "user", "content": "How many eggs?"}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]

SYSTEM: list[dict[str, Any]] = [{"role": "system", "content": DOCUMENT}]
RULES: list[dict[str, Any]] = [{"role": "system", "content": "Be kind."}, *SYSTEM]
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "Remember this."},
    {"role": "assistant", "content": DOCUMENT},
]
USER: list[dict[str, Any]] = [{"role": "user", "content": DOCUMENT}]
CONTEXTS = [
    pytest.param(SYSTEM, id="system"),
    pytest.param(RULES, id="two system messages"),
    pytest.param(TURNS, id="earlier turns"),
    pytest.param(USER, id="a user's text"),
]


@pytest.fixture
def claude() -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as fake:
        yield fake


@pytest.fixture
def marking(tmp_path: Path, claude: FakeAnthropic) -> Iterator[ApiServer]:
    """A server that marks the stable prefix for Anthropic's cache."""
    with ApiServer(
        tmp_path,
        upstream_base_url=claude.url,
        upstream_api="anthropic",
        upstream_cache_prefix=True,
        model="claude-haiku-4-5",
    ) as server:
        yield server


def ask_both_ways(server: ApiServer, context: list[dict[str, Any]], **more: Any) -> None:
    """Ask on a context directly, then with what was learned about it."""
    made = server.client.contexts.create(messages=context)
    server.services.contexts.forget(made.id)
    learn(server, made.id, 1)
    for strategy in ("direct", "learned:low"):
        wish = {"context": made.id, "strategy": strategy}
        body = {"model": "forethought/auto", "messages": [QUERY], "max_tokens": 5000, **more}
        reply = server.chat({**body, "forethought": wish})
        assert reply.headers["x-forethought-strategy"] == strategy


def same_bytes(requests: list[Any]) -> str:
    direct, learned = (request.raw for request in requests)
    assert b"112" in learned
    assert b"112" not in direct
    same = takewhile(lambda pair: pair[0] == pair[1], zip(direct, learned, strict=False))
    return bytes(one for one, _ in same).decode()


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_prefix_is_the_same_for_openai(
    serve: Serve, fake: FakeUpstreamServer, context: list[dict[str, Any]]
) -> None:
    ask_both_ways(serve(), context)
    assert same_bytes(list(fake.requests)[-2:]).endswith(f'{END}"}},{{"role":"')


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_prefix_is_the_same_for_anthropic(
    marking: ApiServer, claude: FakeAnthropic, context: list[dict[str, Any]]
) -> None:
    for _ in range(2):
        claude.says(message({"type": "text", "text": "112"}))
    ask_both_ways(marking, context)
    assert MARKED in same_bytes(claude.requests)
    assert max(one.raw.count(b"cache_control") for one in claude.requests) <= 4


def test_marks_are_set_only_where_the_client_set_none(
    marking: ApiServer, claude: FakeAnthropic
) -> None:
    own = [{"type": "text", "text": "Be kind.", "cache_control": MARK}]
    asked = [{"role": "system", "content": own}, *TURNS, QUERY]
    for messages, marks in ((asked, 1), ([*SYSTEM, *TURNS, QUERY], 2)):
        claude.says(message({"type": "text", "text": "Yes."}))
        marking.chat({"model": "forethought/auto", "messages": messages, "max_tokens": 9})
        assert claude.requests[-1].raw.count(b"cache_control") == marks
    native = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": [QUERY], "system": own}
    claude.says(message({"type": "text", "text": "Yes."}))
    marking.post("/v1/messages", native)
    assert claude.requests[-1].body == native
