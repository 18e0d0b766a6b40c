"""Sleep through the API. One server for all: DBOS allows one sleeper a process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forethought.client import Context
from forethought.models.bundle import PolicyBundle
from forethought.router.registry import Registry
from tests.api.server import ApiServer
from tests.fake_upstream import FakeUpstreamServer

PROGRAM = (
    "eggs = 16\nsold = eggs - 3  # How many eggs are sold?\nearned = sold * 2  # What is earned?"
)
CHEAP = {"fake": {"input": 0.0001, "output": 0.0001}}


def answer(body: dict[str, Any]) -> str:
    asleep = str(body["messages"][0]["content"]).startswith("You read a text")
    return PROGRAM if asleep else "26"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, bundles: tuple[PolicyBundle, PolicyBundle]
) -> Iterator[ApiServer]:
    folder: Path = tmp_path_factory.mktemp("sleeper")
    registry = Registry(folder)
    registry.save(bundles[0])
    registry.promote(bundles[0].version)
    with (
        FakeUpstreamServer(answer=answer) as fake,
        ApiServer(
            folder, upstream_base_url=fake.base_url, model="fake", sleep="auto", prices=CHEAP
        ) as server,
    ):
        yield server


def slept(server: ApiServer, context_id: str) -> Context:
    deadline = time.monotonic() + 30
    while (context := server.client.contexts.retrieve(context_id)).learned is None:
        assert context.sleep is not None
        assert context.sleep.status != "failed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return context


def text(name: str) -> str:
    return (
        f"{name} has ducks that lay 16 eggs a day. {name} eats 3 and sells the rest at 2 dollars."
    )


def test_sleep_on_request_is_used_by_the_next_query(server: ApiServer) -> None:
    context = server.client.contexts.create(text=text("Janet"), sleep=True)
    learned = slept(server, context.id).learned
    assert learned is not None
    assert (learned.status, learned.n_notes, learned.level) == ("ok", 2, "k3r1")
    assert learned.cost_usd is not None
    wish = {"context": context.id, "strategy": "learned:low"}
    question = [{"role": "user", "content": "What is earned?"}]
    reply = server.chat({"messages": question, "forethought": wish})
    assert reply.headers["x-forethought-strategy"] == "learned:low"
    assert learned.id in reply.headers["x-forethought-changes"]
    metrics = server.http.get("/metrics").text
    assert 'forethought_sleep_runs_total{level="k3r1"}' in metrics


def test_a_further_sleep_gives_a_further_version(server: ApiServer) -> None:
    context = server.client.contexts.create(text=text("Tom"), sleep=True, level={"drafts": 1})
    assert slept(server, context.id).learned is not None
    job = server.client.contexts.sleep(context.id, level={"drafts": 2})
    assert job.status in {"queued", "running", "done"}
    deadline = time.monotonic() + 30
    while len(server.client.contexts.learned(context.id).data) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    levels = [one.level for one in server.client.contexts.learned(context.id).data]
    assert levels == ["k2r1", "k1r1"]
    newest = server.client.contexts.retrieve(context.id).learned
    assert newest is not None
    assert newest.version == 2


def test_a_context_that_queries_keep_coming_on_is_slept_on(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the invented policy thinks of learned contexts is not what this is about.
    monkeypatch.setattr(
        "forethought.router.sleep.planner.SleepPlanner._best",
        lambda _, candidates: float(any(c.strategy.startswith("learned") for c in candidates)),
    )
    said = {"role": "system", "content": text("Ann")}
    held = server.client.contexts.create(text=text("Bob"), sleep=False)
    for question in ("How many?", "How much?", "How often?"):
        query = {"role": "user", "content": question}
        reply = server.chat({"messages": [said, query]})
        server.chat({"messages": [query], "forethought": {"context": held.id}})
    context_id = reply.headers["x-forethought-context"]
    assert server.client.contexts.plan(context_id)["buy"]
    assert slept(server, context_id).n_queries == 3
    waiting = server.client.contexts.retrieve(held.id)
    assert waiting.sleep is not None
    assert waiting.sleep.status == "none"


def test_a_plan_shows_its_numbers(server: ApiServer) -> None:
    context = server.client.contexts.create(text=text("Eve"))
    plan = server.client.contexts.plan(context.id)
    assert 0 <= plan["predictability_low"] <= plan["predictability"] <= plan["predictability_high"]
    assert plan["sleep_cost_usd"] > 0
    assert plan["reason"]
    found = plan["explanation"]
    more = found["expected_more"]
    assert more["low"] <= more["mean"] <= more["high"]
    assert len(found["options"]) == 3  # the levels, at the standard price tier
    assert found["changes"]
    assert found["changes"][0]["words"] in " ".join(found["text"]["changes"])
    assert found["text"]["choice"][0].endswith(f"{plan['reason']}.")
