from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forethought.models.bundle import PolicyBundle
from forethought.router.registry import Registry
from tests.api.conftest import Serve
from tests.api.server import ApiServer

Bundles = tuple[PolicyBundle, PolicyBundle]
QUESTION: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "The shop sells 12 eggs for 3 dollars each. " * 8},
        {"role": "user", "content": "How many dollars?"},
    ]
}


@pytest.fixture
def registry(tmp_path: Path, bundles: Bundles) -> Registry:
    registry = Registry(tmp_path / "data")
    for bundle in bundles:
        registry.save(bundle)
    registry.promote(bundles[0].version)
    return registry


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def serving(server: ApiServer) -> dict[str, Any]:
    found: dict[str, Any] = server.http.get("/readyz").json()["policy"]
    return found


def test_a_decision_comes_from_the_champion_and_explains_itself(
    registry: Registry, serve: Serve, bundles: Bundles
) -> None:
    server = serve(exploration=0.0)
    reply = server.chat(QUESTION)
    shown = server.client.decisions.retrieve(reply.headers["x-forethought-decision"])
    assert shown.policy_version == bundles[0].version
    assert shown.mode == "greedy"
    assert sum(candidate.propensity for candidate in shown.candidates) == pytest.approx(1)
    contributions: list[dict[str, Any]] = getattr(shown, "contributions")  # noqa: B009
    sizes = [abs(one["log_odds"]) for one in contributions]
    assert len(sizes) == 5
    assert sizes == sorted(sizes, reverse=True)


def test_a_policy_is_swapped_between_two_requests(
    registry: Registry, serve: Serve, bundles: Bundles
) -> None:
    server, stop, statuses = serve(), threading.Event(), []

    def traffic() -> None:
        while not stop.is_set():
            statuses.append(server.chat(QUESTION).status_code)

    sender = threading.Thread(target=traffic)
    sender.start()
    try:
        wait_for(lambda: len(statuses) > 5)
        registry.promote(bundles[1].version)
        wait_for(lambda: serving(server)["version"] == bundles[1].version)
        after = len(statuses)
        wait_for(lambda: len(statuses) > after + 5)
    finally:
        stop.set()
        sender.join()
    assert set(statuses) == {200}
    versions = [d.decision.policy_version for d in server.services.reader.logged_decisions()]
    assert versions == sorted(versions, key=[bundles[0].version, bundles[1].version].index)
    assert set(versions) == {bundles[0].version, bundles[1].version}


def test_a_corrupt_bundle_never_serves(registry: Registry, serve: Serve, bundles: Bundles) -> None:
    server = serve()
    registry.promote(bundles[1].version)
    wait_for(lambda: serving(server)["version"] == bundles[1].version)
    broken = registry.path(bundles[0].version) / "outcome_quality.txt"
    broken.write_text(broken.read_text() + " ")
    registry.champion_file.write_text(
        registry.champion_file.read_text().replace(bundles[1].version, bundles[0].version)
    )
    wait_for(lambda: serving(server)["problem"] is not None)
    assert str(broken) in serving(server)["problem"]
    assert serving(server)["version"] == bundles[1].version
    assert server.chat(QUESTION).status_code == 200
    assert "forethought_policy_failures_total 1.0" in server.http.get("/metrics").text


def test_a_corrupt_champion_at_the_start_leaves_direct(
    registry: Registry,
    serve: Serve,
    bundles: Bundles,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("forethought.api.policy.pretrained_dir", lambda: tmp_path / "none")
    (registry.path(bundles[0].version) / "demand.json").unlink()
    server = serve()
    assert serving(server)["version"] == "none"
    assert "demand.json" in serving(server)["problem"]
    reply = server.chat(QUESTION)
    assert reply.headers["x-forethought-strategy"] == "direct"
    assert server.logged(reply).decision.mode == "fallback"


def test_a_prediction_that_fails_leaves_direct(
    registry: Registry, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    server = serve()
    monkeypatch.setattr("forethought.router.decision.predict_candidates", fail)
    reply = server.chat(QUESTION)
    assert reply.status_code == 200
    logged = server.logged(reply).decision
    assert (logged.strategy, logged.mode) == ("direct", "fallback")
    assert "prediction failed" in logged.reason


def test_a_strategy_that_cannot_be_prepared_leaves_direct(
    registry: Registry, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    server = serve(exploration=1.0)
    monkeypatch.setattr("forethought.router.strategies.effort.Effort.prepare", fail)
    strategies = {server.chat(QUESTION).headers["x-forethought-strategy"] for _ in range(12)}
    assert strategies == {"direct"}
