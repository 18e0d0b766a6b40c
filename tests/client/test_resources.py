"""Contexts, feedback and decisions over a real socket."""

from __future__ import annotations

from typing import Any

import pytest
from openai import NotFoundError

from forethought.client import Forethought
from tests.client.server import FakeForethought

MESSAGES = [{"role": "system", "content": "Ten eggs and two."}]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        pytest.param({"text": "Ten eggs."}, {"text": "Ten eggs."}, id="text"),
        pytest.param({"messages": MESSAGES}, {"messages": MESSAGES}, id="messages"),
        pytest.param({"messages": iter(MESSAGES)}, {"messages": MESSAGES}, id="any iterable"),
        pytest.param({"text": "x", "sleep": False}, {"text": "x", "sleep": False}, id="no sleep"),
        pytest.param(
            {"text": "x", "sleep": True, "level": {"drafts": 2, "rounds": 1}},
            {"text": "x", "sleep": True, "level": {"drafts": 2, "rounds": 1}},
            id="sleep at a level",
        ),
    ],
)
def test_create_sends_only_what_was_given(
    client: Forethought, fake: FakeForethought, given: Any, sent: Any
) -> None:
    context = client.contexts.create(**given)
    assert (fake.last.method, fake.last.path, fake.last.body) == ("POST", "/v1/contexts", sent)
    assert context.id == "ctx_1"
    assert context.learned is not None
    assert context.learned.cost_usd is None


@pytest.mark.parametrize(
    "given",
    [pytest.param({}, id="neither"), pytest.param({"text": "x", "messages": MESSAGES}, id="both")],
)
def test_create_wants_messages_or_text(
    client: Forethought, fake: FakeForethought, given: Any
) -> None:
    with pytest.raises(TypeError, match="either as `messages` or as `text`"):
        client.contexts.create(**given)
    assert fake.received == []


def test_a_field_of_a_newer_server_is_kept(client: Forethought) -> None:
    context = client.contexts.retrieve("ctx_1")
    assert context.model_extra == {"a_field_of_tomorrow": {"kept": True}}
    assert context.sleep is not None
    assert context.sleep.status == "done"


def test_listing_follows_the_pages(client: Forethought, fake: FakeForethought) -> None:
    assert [context.id for context in client.contexts.list(limit=2)] == ["ctx_1", "ctx_2", "ctx_3"]
    assert [request.path for request in fake.received] == [
        "/v1/contexts?limit=2",
        "/v1/contexts?limit=2&after=ctx_2",
    ]


def test_learned_contexts_carry_their_notes(client: Forethought) -> None:
    (learned,) = client.contexts.learned("ctx_1").data
    assert learned.notes[0].derivation == "12 - 3"
    assert learned.usage is not None
    assert learned.usage.output_tokens == 90


def test_sleep_plan_and_delete_reach_their_paths(
    client: Forethought, fake: FakeForethought
) -> None:
    assert client.contexts.sleep("ctx_1", level={"drafts": 3}).status == "queued"
    assert fake.last.body == {"level": {"drafts": 3}}
    assert client.contexts.plan("ctx_1")["break_even_queries"] == 7.5
    assert client.contexts.delete("ctx_1").deleted
    assert [request.path for request in fake.received] == [
        "/v1/contexts/ctx_1/sleep",
        "/v1/contexts/ctx_1/plan",
        "/v1/contexts/ctx_1",
    ]


def test_feedback_names_its_decision(client: Forethought, fake: FakeForethought) -> None:
    feedback = client.feedback.create("dec_1", 0.5, "half right", source="grader")
    assert fake.last.body == {
        "decision_id": "dec_1",
        "quality": 0.5,
        "comment": "half right",
        "source": "grader",
    }
    assert (feedback.id, feedback.quality) == ("fb_1", 0.5)


def test_a_decision_explains_itself(client: Forethought) -> None:
    decision = client.decisions.retrieve("dec_1")
    assert str(decision) == "learned:low (p=0.90, greedy): the answer was foreseen"
    assert [candidate.strategy for candidate in decision.candidates] == ["direct", "learned:low"]
    assert decision.candidates[0].cost_usd is None
    assert decision.outcome is not None
    assert decision.outcome.usage is not None
    assert decision.outcome.usage.cached_tokens == 0
    found = decision.explanation
    assert found is not None
    assert str(found) == "The answer was foreseen.\ndirect would be."
    assert found.predictability is not None
    assert found.predictability.low == 0.7
    assert found.candidates[0].changes[0].becomes == 0.6


def test_a_preview_sends_the_request_to_the_dry_run(
    client: Forethought, fake: FakeForethought
) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    wish = {"forethought": {"strategy": "direct"}}
    found = client.decisions.preview(messages=messages, model="small", extra_body=wish)
    assert (fake.last.path, fake.last.body) == (
        "/v1/route",
        {"model": "small", "messages": messages, **wish},
    )
    assert str(found) == "learned:low (p=0.90, greedy): the answer was foreseen"
    assert found.explanation is not None


@pytest.mark.parametrize("identifier", ["", ".", ".."])
def test_an_id_that_would_leave_the_collection_is_refused(
    client: Forethought, fake: FakeForethought, identifier: str
) -> None:
    with pytest.raises(ValueError, match="id of one of the contexts"):
        client.contexts.delete(identifier)
    assert fake.received == []


def test_an_id_is_one_path_segment(client: Forethought, fake: FakeForethought) -> None:
    with pytest.raises(NotFoundError):
        client.contexts.retrieve("../decisions/dec_1?x=1")
    assert fake.last.path == "/v1/contexts/..%2Fdecisions%2Fdec_1%3Fx%3D1"


def test_errors_are_the_sdks(client: Forethought) -> None:
    with pytest.raises(NotFoundError, match="Nothing at") as caught:
        client.decisions.retrieve("dec_9")
    assert caught.value.code == "not_found"


def test_one_call_can_set_its_headers_and_timeout(
    client: Forethought, fake: FakeForethought
) -> None:
    client.contexts.retrieve("ctx_1", extra_headers={"x-tenant": "acme"}, timeout=3.0)
    assert fake.last.headers["x-tenant"] == "acme"
    assert fake.last.headers["x-stainless-read-timeout"] == "3.0"
