from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from forethought.router import turns
from forethought.router.past_policies import PastPolicies
from forethought.router.registry import Registry
from tests.api.conftest import Bundles, Serve
from tests.api.server import ApiServer
from tests.waiting import wait_for

QUESTION: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "The shop sells 12 eggs for 3 dollars each. " * 8},
        {"role": "user", "content": "How many dollars?"},
    ]
}


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
    found = shown.explanation
    assert found is not None
    assert (found.policys_choice, found.missing) == (shown.strategy, [])
    assert found.preferences is not None
    assert found.preferences["value_usd"] == server.settings.preferences.value_usd
    assert found.difference is not None
    sizes = [abs(one.effect) for one in found.difference.latency_ms.contributions]
    assert 0 < len(sizes) <= 5
    assert sizes == sorted(sizes, reverse=True)
    for candidate in found.candidates[:3]:
        assert candidate.quality_low is not None
        assert candidate.quality_high is not None
        assert candidate.verdict
    # The same in words.
    assert shown.strategy in str(found)
    assert "would be chosen if" in str(found)


def test_what_a_decision_names_as_its_change_does_change_it(
    registry: Registry, serve: Serve
) -> None:
    server = serve(exploration=0.0)
    # A dry run leaves the situation as it is: after a reply, the context has a history.
    found = server.client.decisions.preview(messages=QUESTION["messages"], model="fake").explanation
    assert found is not None
    by_preference = {
        change.lever: (candidate.strategy, change.becomes)
        for candidate in found.candidates
        for change in candidate.changes
        if change.lever in {"value_usd", "latency_usd_per_s", "quality_margin", "quality_floor"}
    }
    assert by_preference
    decider = server.services.decider
    before = decider.preferences
    for lever, (strategy, becomes) in by_preference.items():
        change: dict[str, Any] = {lever: becomes}
        decider.preferences = replace(before, **change)
        again = server.client.decisions.preview(messages=QUESTION["messages"], model="fake")
        assert again.strategy == strategy


def test_a_dry_run_explains_itself_as_the_decision_would(
    registry: Registry, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(exploration=0.0)
    server.logged(server.chat(QUESTION))
    at = time.time() + 60  # how long ago the latest query was is a feature
    clock = SimpleNamespace(time=lambda: at, perf_counter=time.perf_counter)
    monkeypatch.setattr(turns, "time", clock)
    previewed = server.client.decisions.preview(messages=QUESTION["messages"], model="fake")
    decision = server.chat(QUESTION).headers["x-forethought-decision"]
    served = server.client.decisions.retrieve(decision)
    assert previewed.explanation is not None
    assert served.explanation is not None
    assert str(previewed) == str(served)
    assert previewed.explanation.text["choice"] == served.explanation.text["choice"]
    assert previewed.context_id == served.context_id


def test_a_decision_of_a_policy_that_is_gone_says_so(
    registry: Registry, serve: Serve, bundles: Bundles
) -> None:
    server = serve(exploration=0.0)
    decision = server.chat(QUESTION).headers["x-forethought-decision"]
    registry.promote(bundles[1].version)
    wait_for(lambda: serving(server)["version"] == bundles[1].version)
    kept = server.client.decisions.retrieve(decision).explanation
    assert kept is not None
    assert kept.missing == []  # read from the registry
    forgetful = PastPolicies(Registry(registry.folder / "none"))
    server.app.state.services = replace(server.services, past_policies=forgetful)
    gone = server.client.decisions.retrieve(decision).explanation
    assert gone is not None
    assert bundles[0].version in gone.missing[0]
    assert gone.difference is None
    assert [c.quality for c in gone.candidates] == [c.quality for c in kept.candidates]


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
    monkeypatch.setattr("forethought.router.decision.candidates_of", fail)
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
