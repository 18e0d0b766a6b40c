"""Sleep counts against the budget, call by call, and is refused like requests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.server import KEY, ApiServer
from tests.api.test_sleep import answer, text
from tests.fake_upstream import FakeUpstreamServer

PRICES = {"fake": {"input": 10.0, "output": 10.0}}


@pytest.fixture(scope="module")
def fake_sleeper() -> Iterator[FakeUpstreamServer]:
    with FakeUpstreamServer(answer=answer) as fake:
        yield fake


@pytest.fixture(scope="module")
def server(
    fake_sleeper: FakeUpstreamServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    settings: dict[str, Any] = {
        "upstream_base_url": fake_sleeper.base_url, "model": "fake", "prices": PRICES,
        "sleep": "auto", "budget_usd": 1.0, "budget_period_s": 365 * 86_400.0,
    }  # fmt: skip
    folder: Path = tmp_path_factory.mktemp("sleeper")
    with ApiServer(folder, **settings) as server:
        yield server


def budget_of(server: ApiServer) -> dict[str, Any]:
    found: dict[str, Any] = server.http.get(
        "/v1/budget", headers={"authorization": f"Bearer {KEY}"}
    ).json()
    return found


def ended(server: ApiServer, context_id: str) -> str:
    deadline = time.monotonic() + 30
    while True:
        sleep = server.client.contexts.retrieve(context_id).sleep
        assert sleep is not None
        if sleep.status in {"done", "failed"}:
            return sleep.status
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_sleep_is_paid_from_the_budget_until_that_is_spent(
    server: ApiServer, fake_sleeper: FakeUpstreamServer
) -> None:
    context = server.client.contexts.create(text=text("Janet"), sleep=True)
    assert ended(server, context.id) == "done"
    learned = server.client.contexts.learned(context.id).data[0]
    shown = budget_of(server)
    assert shown["sleep_usd"] == pytest.approx(learned.cost_usd)
    assert shown["spent_usd"] == shown["sleep_usd"] > 0
    assert shown["reserved_usd"] == 0
    # The rest goes to something else; what then asks to sleep is not served.
    server.services.budget.settle_sleep("other", 0.999)  # type: ignore[union-attr]
    asked = len(fake_sleeper.requests)
    late = server.client.contexts.create(text=text("Tom"), sleep=True)
    assert ended(server, late.id) == "failed"
    assert len(fake_sleeper.requests) == asked
    assert budget_of(server)["refused"] > 0
