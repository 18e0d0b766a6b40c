"""A tenant's graded answers move what is predicted for it: over HTTP, and after a restart."""

from __future__ import annotations

from typing import Any

import pytest

from forethought.router.blending import policy_quality
from forethought.router.registry import Registry
from tests.api.conftest import Bundles, Serve
from tests.api.server import ApiServer
from tests.waiting import wait_for


def question(n: int) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "system", "content": f"Shop {n} sells 12 eggs for 3 dollars each. " * 8},
            {"role": "user", "content": "How many dollars?"},
        ]
    }


def judge(server: ApiServer, n: int, quality: float) -> str:
    """Ask, force the strategy, and judge the answer."""
    body = {**question(n), "forethought": {"strategy": "direct"}}
    decision: str = server.chat(body).headers["x-forethought-decision"]
    server.logged_as(decision)
    server.client.feedback.create(decision_id=decision, quality=quality)
    return decision


def predicted(server: ApiServer) -> Any:
    shown = server.client.decisions.preview(messages=question(99)["messages"], model="fake")
    assert shown.explanation is not None
    return shown.explanation


def test_graded_answers_move_the_predictions_and_the_record_says_how(
    registry: Registry, serve: Serve
) -> None:
    server = serve(exploration=0.0)
    before = predicted(server).candidates[0]
    assert (before.offset, before.graded) == (0.0, None)
    for n in range(12):
        judge(server, n, 0.0)
    found = predicted(server)
    after = found.candidates[0]
    assert after.graded == 12
    assert after.offset < 0
    assert after.quality < before.quality
    # The policy itself hears of the judgements only through the tenant's past.
    unblended = serve(exploration=0.0, blending=False)  # another process on the same log
    own = pytest.approx(after.policy_quality, abs=1e-9)
    wait_for(lambda: predicted(unblended).candidates[0].quality == own)
    assert after.quality < after.policy_quality
    assert after.quality_low <= after.quality <= after.quality_high
    said = str(found)
    assert "Your last 12 graded answers with direct were right 0% against" in said
    assert "effort:low: moved from" in said  # by what direct's answers say of all


def test_what_was_judged_is_known_after_a_restart(
    registry: Registry, serve: Serve, bundles: Bundles
) -> None:
    server = serve(exploration=0.0)
    for n in range(6):
        judge(server, n, float(n % 2))
    before = predicted(server).candidates[0]
    again = serve(exploration=0.0)  # another process on the same log
    wait_for(lambda: predicted(again).candidates[0].graded == 6)
    after = predicted(again).candidates[0]
    assert after.quality == pytest.approx(before.quality)
    # Another policy may have learned from these answers: it starts anew, and so does a return.
    registry.promote(bundles[1].version)
    wait_for(lambda: predicted(again).policy_version == bundles[1].version)
    assert predicted(again).candidates[0].graded is None
    registry.promote(bundles[0].version)
    wait_for(lambda: predicted(again).candidates[0].graded == 6)


def test_a_decision_uses_only_what_was_judged_before_it(registry: Registry, serve: Serve) -> None:
    server = serve(exploration=0.0)
    made = [judge(server, n, 1.0) for n in range(5)]
    logged = [server.logged_as(decision).decision for decision in made]
    counts = [one.candidates[0].graded for one in logged]
    assert counts == [None, 1, 2, 3, 4]
    offsets = [one.candidates[0].offset for one in logged]
    assert offsets == sorted(offsets, key=lambda x: x or 0.0)
    raw = [policy_quality(one.candidates[0]) for one in logged]
    assert max(q or 0.0 for q in raw) - min(q or 1.0 for q in raw) < 0.2


def test_a_judgement_of_another_tenant_moves_nothing(registry: Registry, serve: Serve) -> None:
    server = serve(exploration=0.0, api_keys={"test-key": "acme", "other-key": "other"})
    for n in range(3):
        judge(server, n, 1.0)
    reply = server.http.post(
        "/v1/route",
        json={"model": "fake", **question(99)},
        headers={"authorization": "Bearer other-key"},
    )
    assert reply.json()["candidates"][0]["graded"] is None


def test_it_can_be_switched_off(registry: Registry, serve: Serve) -> None:
    server = serve(exploration=0.0, blending=False)
    judge(server, 0, 0.0)
    assert predicted(server).candidates[0].offset is None


def test_answers_that_are_likely_late_are_not_candidates(registry: Registry, serve: Serve) -> None:
    free = predicted(serve(exploration=0.5))
    times = sorted(c.latency_ms_p90 for c in free.candidates if c.latency_ms_p90)
    assert len(times) == 3
    limit = (times[0] + times[1]) / 2
    limited = serve(exploration=0.5, max_latency_ms=limit)
    found = predicted(limited)
    slow = [c for c in found.candidates if c.latency_ms_p90 and c.latency_ms_p90 > limit]
    assert len(slow) == 2
    for candidate in slow:
        assert candidate.propensity == 0
        assert "one answer in ten takes longer" in candidate.verdict
    assert found.strategy not in {c.strategy for c in slow}
    least = predicted(serve(exploration=0.5, max_latency_ms=0.001))
    assert sum(c.propensity > 0 for c in least.candidates) == 1  # the fastest is left


@pytest.mark.parametrize("kind", ["softmax", "thompson"])
def test_the_way_of_exploring_is_set_and_recorded(
    registry: Registry, serve: Serve, kind: str
) -> None:
    server = serve(exploration=0.1, exploration_kind=kind, quality_margin=1.0)
    replies = [server.chat(question(n)) for n in range(6)]
    for reply in replies:
        logged = server.logged(reply).decision
        assert logged.preferences is not None
        assert logged.preferences["exploration_kind"] == kind
        chances = {c.strategy: c.propensity for c in logged.candidates}
        assert logged.propensity == chances[logged.strategy]
        assert sum(chances.values()) == pytest.approx(1)
        shown = server.client.decisions.retrieve(logged.id).explanation
        assert shown is not None
        assert shown.missing == []
