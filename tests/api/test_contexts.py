from __future__ import annotations

import secrets

import pytest
from openai import NotFoundError

from forethought.client import decision_id
from forethought.router.records import LearnedContext, Note, Usage
from tests.api.conftest import Serve
from tests.api.server import ApiServer
from tests.fake_upstream import FakeUpstreamServer


def some_text() -> str:
    return f"Janet {secrets.token_hex(6)} has ducks that lay 16 eggs a day."


def learn(server: ApiServer, context_id: str, version: int) -> LearnedContext:
    learned = LearnedContext(
        id=f"lc_{context_id}_{version}",
        context_id=context_id,
        version=version,
        level="k3r1",
        model="fake",
        notes=(Note(kind="computed", text="eggs a week", answer="112", confidence=1.0),),
        text="- eggs a week: 112",
        tokens=6,
        usage=Usage(input_tokens=100, output_tokens=20),
        cost_usd=None,
        created_at=1.0,
    )
    server.services.writer.write_sync(learned)
    return learned


def test_registering_twice_gives_the_same_context(server: ApiServer) -> None:
    text = some_text()
    first = server.client.contexts.create(text=text)
    again = server.client.contexts.create(messages=[{"role": "user", "content": text}])
    assert first.id == again.id
    assert (first.registered, first.learned, first.n_queries) == (True, None, 0)


def test_a_registered_text_is_found_in_a_request(server: ApiServer) -> None:
    text = some_text()
    context = server.client.contexts.create(text=text)
    reply = server.chat(
        {
            "messages": [
                {"role": "system", "content": text},
                {"role": "user", "content": "How many?"},
            ]
        }
    )
    assert reply.headers["x-forethought-context"] == context.id


def test_contexts_are_listed_page_by_page(server: ApiServer) -> None:
    made = [server.client.contexts.create(text=some_text()).id for _ in range(3)]
    page = server.client.contexts.list(limit=2)
    assert [context.id for context in page.data] == made[:0:-1]
    assert page.has_more
    listed = [context.id for context in server.client.contexts.list(limit=2)]
    assert set(made) <= set(listed)
    assert len(listed) == len(set(listed))


def test_what_was_learned_is_shown_and_used(serve: Serve, fake: FakeUpstreamServer) -> None:
    server = serve()
    context = server.client.contexts.create(text=some_text())
    server.services.contexts.forget(context.id)
    learn(server, context.id, 1)
    learn(server, context.id, 2)
    shown = server.client.contexts.retrieve(context.id)
    assert shown.learned is not None
    assert (shown.learned.version, shown.learned.n_notes) == (2, 1)
    versions = server.client.contexts.learned(context.id).data
    assert [version.version for version in versions] == [2, 1]
    assert versions[0].notes[0].answer == "112"
    wish = {"context": context.id, "strategy": "learned:low"}
    reply = server.chat(
        {"messages": [{"role": "user", "content": "How many?"}], "forethought": wish}
    )
    assert fake.requests[-1].body["messages"][1] == {
        "role": "system",
        "content": "- eggs a week: 112",
    }
    assert server.logged(reply).decision.learned_context_id == shown.learned.id


def test_a_deleted_context_takes_its_texts_along(server: ApiServer) -> None:
    context = server.client.contexts.create(text=some_text())
    reply = server.chat(
        {"messages": [{"role": "user", "content": "Why?"}], "forethought": {"context": context.id}}
    )
    assert server.client.contexts.delete(context.id).deleted
    with pytest.raises(NotFoundError):
        server.client.contexts.retrieve(context.id)
    logged = server.logged(reply)
    assert (logged.decision.context_id, logged.decision.query) == (None, "")
    assert logged.outcome is not None
    assert logged.outcome.answer is None


def test_a_plan_says_why_there_is_none(server: ApiServer) -> None:
    context = server.client.contexts.create(text=some_text())
    plan = server.client.contexts.plan(context.id)
    assert (plan["buy"], plan["reason"]) == (False, "sleep is off")


def test_feedback_reaches_the_decision(server: ApiServer) -> None:
    raw = server.client.chat.completions.with_raw_response.create(
        model="fake", messages=[{"role": "user", "content": "Hi"}]
    )
    given = server.client.feedback.create(decision_id(raw), 0.5, "fair", source="grader")
    decision = server.client.decisions.retrieve(decision_id(raw))
    assert (given.quality, given.comment, given.source) == (0.5, "fair", "grader")
    assert decision.quality == 0.5
    assert decision.outcome is not None
    assert decision.outcome.status == "ok"
    assert len(decision.candidates) == 5
    assert decision.reason.startswith("direct: ")


def test_the_models_are_the_upstreams_and_ours(server: ApiServer) -> None:
    assert [m.id for m in server.openai.models.list()] == ["fake", "forethought/auto"]
    assert server.openai.models.retrieve("forethought/auto").owned_by == "forethought"


def test_metrics_count_what_happened(serve: Serve) -> None:
    server = serve()
    server.chat({"messages": [{"role": "user", "content": "one two"}]})
    text = server.http.get("/metrics").text
    for line in (
        'route="/v1/chat/completions",status="200",strategy="direct"} 1.0',
        'forethought_decisions_total{mode="greedy",strategy="direct"} 1.0',
        'forethought_tokens_total{kind="input",strategy="direct"} 2.0',
        'forethought_outcomes_total{status="ok"} 1.0',
        "forethought_unpriced_total 1.0",
    ):
        assert line in text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_whoever_has_an_answer_finds_it_in_the_metrics(serve: Serve, *, stream: bool) -> None:
    server = serve()
    for n in range(1, 11):
        server.chat({"messages": [{"role": "user", "content": "one two"}], "stream": stream})
        text = server.http.get("/metrics").text
        assert f'forethought_outcomes_total{{status="ok"}} {n}.0' in text


def test_a_conversation_that_began_with_document_and_question_keeps_its_context(
    server: ApiServer,
) -> None:
    document = " ".join(some_text() for _ in range(5))
    asked = {"role": "user", "content": f"Context: {document}\nQuestion: Why?"}
    later = [asked, {"role": "assistant", "content": "So."}, {"role": "user", "content": "And?"}]
    first, second = (server.chat({"messages": turns}) for turns in ([asked], later))
    context_id = first.headers["x-forethought-context"]
    assert second.headers["x-forethought-context"] == context_id
    assert server.logged(second).decision.query == "And?"
    assert server.client.contexts.retrieve(context_id).n_queries == 2
