"""No feature looks into the future: what was logged at a decision follows from what came before."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from forethought.models.embedding import WordLlamaEmbedder
from forethought.models.features import (
    DECISION_FEATURES,
    FeatureExtractor,
    HistoryFacts,
    RequestFacts,
)
from forethought.models.history import NO_PRECEDENTS, REMEMBERED, Precedents
from forethought.router.experience import Asked, Experience, application_of
from forethought.router.log import LogReader, Store
from forethought.router.log.past import read_past
from forethought.router.records import Context, Decision, LearnedContext, Note, Usage
from forethought.router.situation import artefact_facts
from tests.api.conftest import Serve
from tests.api.server import ApiServer
from tests.fake_upstream import FakeUpstreamServer

EXTRACTOR = FeatureExtractor(WordLlamaEmbedder())
EXPERIENCE = Experience(EXTRACTOR)
RULES = "You answer questions about one document.\n\n"
DOCUMENTS = [
    "Ann had 12 apples. She gave 3 of them to Bob and sold the rest at $2 each.",
    "Ben had 30 pears. He gave 10 of them to Eve and sold the others at $4 each.",
    "Revenue was £24.9m in 2019 and £25.4m in 2018; the number of employees fell to 310.",
    "Once upon a time a king lived in a castle by the sea, with three daughters.",
]
QUESTIONS = ["How much did she earn?", "How many were sold?", "Who was there?", "Why?"]
Sent = dict[str, dict[str, Any]]
"""The bodies of the requests by the id of their decision."""


def body(document: int, question: int, **fields: Any) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": RULES + DOCUMENTS[document]},
        {"role": "user", "content": QUESTIONS[question]},
    ]
    return {"model": "fake", "messages": messages, **fields}


def served(server: ApiServer) -> Sent:
    """A mix of conversations of two tenants: some at once, judged, failing, streamed, learned."""
    sent: Sent = {}

    def ask(request: dict[str, Any], key: str = "a", quality: float | None = None) -> None:
        reply = server.post("/v1/chat/completions", request, authorization=f"Bearer {key}")
        made = reply.headers["x-forethought-decision"]
        sent[made] = request
        if quality is not None:
            judgement = {"decision_id": made, "quality": quality}
            said = server.post("/v1/feedback", judgement, authorization=f"Bearer {key}")
            assert said.status_code == 200

    for n in range(8):
        ask(body(n % 4, n % 3, max_tokens=10 + n), quality=float(n % 2))
    ask({"model": "fake", "messages": [{"role": "user", "content": "Hello"}]})
    ask(body(0, 2, model="fake:status=400"))
    ask(body(1, 2, stream=True))
    learn(server)
    with ThreadPoolExecutor(4) as pool:
        some = [(body(n % 4, n % 4), "ab"[n % 2], (n % 3) / 2) for n in range(16)]
        list(pool.map(lambda each: ask(*each), some))
    for made in list(sent)[:3]:  # a later judgement replaces the first
        server.post("/v1/feedback", {"decision_id": made, "quality": 0.5}, authorization="Bearer a")
    for n in range(4):
        ask(body(0, n, forethought={"strategy": "learned:low"}), quality=1.0)
        ask(body(n, 3))
    return sent


def learn(server: ApiServer) -> None:
    """Give the first document notes, as sleep would."""
    services = server.services
    context = next(k.context for k in known(server) if DOCUMENTS[0] in k.context.text)
    notes = (Note(kind="question", text="How much did Ann earn?", answer="18", confidence=1.0),)
    learned = LearnedContext(
        id="lc_1", context_id=context.id, version=1, level="k1r1", model="fake", notes=notes,
        text="Ann earned $18.", tokens=6, usage=Usage(), cost_usd=None, created_at=time.time(),
    )  # fmt: skip
    services.writer.write_sync(learned)
    services.contexts.learned(learned)


def known(server: ApiServer) -> list[Any]:
    return list(server.services.contexts._known.values())


def surprisal(sent: Mapping[str, Any]) -> float:
    """What the fake upstream thinks of a query: a word's improbability grows with its length."""
    words = sent["messages"][-1]["content"].split()
    return math.fsum(math.log(1 + len(word)) for word in words) / len(words)


def recomputed(
    store: Store,
    decision: Decision,
    sent: Mapping[str, Any],
    until: float,
    *,
    ahead: bool = False,
) -> dict[str, float]:
    """The features of a decision from the request and what the log knew before ``until``."""
    contexts, events = read_past(store, until)
    past = list(events)
    history = EXPERIENCE.recalled(contexts, past)
    reader = LogReader(store)
    context = None
    if decision.context_id is not None:
        context = reader.context(decision.context_id, decision.tenant)
    request = RequestFacts(
        max_tokens=sent.get("max_tokens"),
        n_messages=len(sent["messages"]),
        stream=bool(sent.get("stream")),
        surprisal=surprisal(sent) if ahead and context is not None else math.nan,
    )
    if context is None:
        precedents = history.precedents(decision.tenant, None, None, None)
        facts = HistoryFacts(precedents=precedents)
        return EXTRACTOR.decision(None, decision.query, None, facts, request)
    vector = EXTRACTOR.context(context.text)
    asked = [one for one in past if isinstance(one, Asked) and one.context_id == context.id]
    facts = HistoryFacts(
        n_queries=len(asked),
        age_s=decision.created_at - context.created_at,
        seconds_since_last=max(0.0, decision.created_at - asked[-1].created_at)
        if asked
        else math.nan,
        precedents=history.precedents(
            decision.tenant, context.id, application_of(context.messages), vector.embedding
        ),
    )
    learned = [one for one in reader.learned_versions(context.id) if one.created_at < until]
    artefact = artefact_facts(learned[0]) if learned else None
    return EXTRACTOR.decision(vector, decision.query, artefact, facts, request)


def leaks(store: Store, sent: Sent, *, ahead: bool = False) -> dict[str, int]:
    """The features that differ from what was known, and at how many decisions."""
    found: dict[str, int] = {}
    n = 0
    for logged in LogReader(store).logged_decisions():
        decision = logged.decision
        expected = recomputed(store, decision, sent[decision.id], decision.created_at, ahead=ahead)
        n += 1
        for name, value in expected.items():
            if decision.features[name] != pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True):
                found[name] = found.get(name, 0) + 1
    assert n == len(sent)
    return found


@pytest.fixture
def store(serve: Serve) -> tuple[Store, Sent]:
    server = serve()
    sent = served(server)
    server.services.writer.flush()
    return server.services.store, sent


def test_every_logged_feature_follows_from_what_was_logged_before(
    store: tuple[Store, Sent],
) -> None:
    assert leaks(*store) == {}
    rows = [one.decision.features for one in LogReader(store[0]).logged_decisions()]
    asked = {f.name for f in DECISION_FEATURES} - {"q_surprisal", "hist_surprisal"}
    never = {name for name in asked if all(math.isnan(row[name]) for row in rows)}
    assert not never  # the mix has a use for every feature


@pytest.mark.parametrize("when", ["ahead", "after"])
def test_surprisal_is_known_of_this_query_or_of_earlier_ones(serve: Serve, when: str) -> None:
    server = serve(surprisal=when)
    sent = served(server)
    server.services.writer.flush()
    assert leaks(server.services.store, sent, ahead=when == "ahead") == {}
    last = list(LogReader(server.services.store).logged_decisions())[-1].decision
    assert not math.isnan(last.features["hist_surprisal"])
    assert math.isnan(last.features["q_surprisal"]) == (when == "after")


def test_a_feature_that_knows_its_own_query_is_caught(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Experience.precedents

    def leaking(self: Experience, context: Context | None, vector: Any, tenant: str) -> Precedents:
        if context is not None and honest(self, context, vector, tenant) is not NO_PRECEDENTS:
            event = Asked(at=0.0, context_id=context.id, query="", created_at=time.time())
            self.asked(event, context)
        return honest(self, context, vector, tenant)

    monkeypatch.setattr(Experience, "precedents", leaking)
    server = serve()
    sent = served(server)
    server.services.writer.flush()
    assert {"tenant_queries", "app_queries"} <= set(leaks(server.services.store, sent))


def test_knowing_the_whole_log_would_change_features(store: tuple[Store, Sent]) -> None:
    log, sent = store
    differ: set[str] = set()
    for logged in LogReader(log).logged_decisions():
        decision = logged.decision
        later = recomputed(log, decision, sent[decision.id], math.inf)
        differ |= {
            name
            for name, value in later.items()
            if decision.features[name] != pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True)
        }
    assert {"hist_queries", "hist_right", "near_quality", "tenant_right", "q_past_similarity",
            "art_notes"} <= differ  # fmt: skip


def test_a_restarted_server_knows_the_past(
    serve: Serve, fake: FakeUpstreamServer, tmp_path: Path
) -> None:
    with ApiServer(tmp_path / "data", upstream_base_url=fake.base_url, model="fake") as server:
        served(server)
        before = remembered(server)
    assert before
    again, end = serve(), time.monotonic() + 5
    while remembered(again) != pytest.approx(before) and time.monotonic() < end:
        time.sleep(0.02)
    assert remembered(again) == pytest.approx(before)


def remembered(server: ApiServer) -> dict[str, float]:
    reply = server.post("/v1/route", body(0, 1), authorization="Bearer a")
    features: dict[str, float] = reply.json()["features"]
    return {name: features[name] for name in REMEMBERED if name in features}
