"""A context that is not to be slept on unasked stays so when the server starts again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.server import ApiServer
from tests.api.test_sleep import answer, slept, text
from tests.fake_upstream import FakeUpstreamServer


@pytest.fixture
def fake_sleeper() -> Iterator[FakeUpstreamServer]:
    with FakeUpstreamServer(answer=answer) as fake:
        yield fake


def test_sleep_false_outlives_the_server(tmp_path: Path, fake_sleeper: FakeUpstreamServer) -> None:
    def started() -> ApiServer:
        return ApiServer(
            tmp_path, upstream_base_url=fake_sleeper.base_url, model="fake", sleep="always"
        )

    def status(server: ApiServer, context_id: str) -> str | None:
        sleep = server.client.contexts.retrieve(context_id).sleep
        return None if sleep is None else sleep.status

    question = [{"role": "user", "content": "How many?"}]
    with started() as server:
        held = server.client.contexts.create(text=text("Bob"), sleep=False).id
    with started() as server:
        free = server.client.contexts.create(text=text("Ann")).id
        assert server.client.contexts.create(text=text("Bob")).id == held  # says nothing of sleep
        for context_id in (held, free):
            server.chat({"messages": question, "forethought": {"context": context_id}})
        slept(server, free)
        assert status(server, held) == "none"
        server.client.contexts.create(text=text("Bob"), sleep=True)
        slept(server, held)
