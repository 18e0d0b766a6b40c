"""Which strategy is chosen, and what the record says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from forethought.models.bundle import PolicyBundle
from forethought.models.features import DECISION_FEATURES, FEATURE_VERSION, FeatureExtractor
from forethought.router.allocation import Preferences
from forethought.router.decision import Decider
from forethought.router.pricing import PriceTable
from forethought.router.records import (
    Candidate,
)
from forethought.router.situation import _Cache
from forethought.router.strategies import BY_NAME, STRATEGIES
from tests.router.chats import (
    DOCUMENT,
    QUESTION,
    chat,
    make_context,
    make_learned,
    system,
    user,
)
from tests.router.deciding import (
    BODY,
    PRICES,
    CountingEmbedder,
    make_decider,
    make_situation,
    recalling,
)


def test_ids_of_decisions_are_in_the_order_of_time(decider: Decider) -> None:
    ids = [decider.decide(make_situation(now=at)).id for at in (1.0, 1.5, 1_760_000_000.0)]
    assert sorted(ids) == ids
    assert len({decider.decide(make_situation()).id for _ in range(3)}) == 3


def test_a_decision_is_recorded_completely(decider: Decider, bundle: PolicyBundle) -> None:
    context = make_context(BODY, n_queries=3)
    made = decider.decide(make_situation(learned=make_learned(), context=context))
    assert made.id.startswith("dec_")
    assert (made.created_at, made.tenant, made.model) == (100.0, "acme", "m")
    assert (made.context_id, made.learned_context_id) == ("ctx_1", "lc_1")
    assert made.query == QUESTION
    assert (made.policy_version, made.feature_version) == (bundle.version, FEATURE_VERSION)
    assert list(made.features) == [feature.name for feature in DECISION_FEATURES]
    assert [c.strategy for c in made.candidates] == list(STRATEGIES)
    assert made.predictability is not None
    assert 0 <= made.predictability <= 1
    assert made.expected_queries == pytest.approx(4 + bundle.demand.expected_more(4))
    assert made.strategy in made.reason
    assert made.id != decider.decide(make_situation()).id


def test_every_admissible_candidate_is_predicted(decider: Decider) -> None:
    made = decider.decide(make_situation(learned=make_learned()))
    for c in made.candidates:
        assert c.excluded is None
        assert c.quality is not None
        assert 0 <= c.quality <= 1
        assert min(c.output_tokens or 0, c.cost_usd or 0, c.latency_ms or 0, c.propensity) > 0
        assert c.utility is not None


def test_an_excluded_candidate_says_why_and_is_never_drawn(decider: Decider) -> None:
    for _ in range(50):
        made = decider.decide(make_situation())
        assert not made.strategy.startswith("learned")
        for c in made.candidates[3:]:
            assert c.excluded == "nothing was learned about this context yet"
            assert (c.propensity, c.quality) == (0.0, None)


def test_the_logged_propensity_is_the_drawn_candidates(decider: Decider) -> None:
    situation = make_situation(learned=make_learned())
    made = [decider.decide(situation) for _ in range(300)]
    for d in made:
        by_name = {c.strategy: c.propensity for c in d.candidates}
        assert d.propensity == by_name[d.strategy]
        assert sum(by_name.values()) == pytest.approx(1)
        greedy = max(by_name, key=lambda name: by_name[name])
        assert d.mode == ("greedy" if d.strategy == greedy else "explored")
    explored = [d for d in made if d.mode == "explored"]
    # 0.16 = 0.2 of exploration, of which a fifth falls on the greedy one; 4 standard deviations.
    assert len(explored) / 300 == pytest.approx(0.16, abs=0.085)
    assert all("Drawn to explore, with propensity 0.040" in d.reason for d in explored)


@pytest.mark.parametrize("name", ["direct", "effort:high", "learned:low"])
def test_a_forced_strategy_is_taken_and_marked(decider: Decider, name: str) -> None:
    made = decider.decide(make_situation(learned=make_learned(), forced=name))
    assert (made.strategy, made.mode, made.propensity) == (name, "forced", 1.0)
    assert {c.strategy for c in made.candidates if c.propensity} == {name}
    assert made.reason == f"The request asked for {name}."
    assert made.features
    free = decider.decide(make_situation(learned=make_learned()))
    assert [_foreseen(c) for c in made.candidates] == [_foreseen(c) for c in free.candidates]
    assert (made.policy_version, made.preferences) == (free.policy_version, free.preferences)


def _foreseen(candidate: Candidate) -> Candidate:
    return replace(candidate, propensity=0.0)


def test_what_only_the_client_may_ask_for_is_predicted_and_marked(decider: Decider) -> None:
    body = chat(system(DOCUMENT), user("Sum it up."))
    made = decider.decide(make_situation(body, learned=make_learned(), forced="effort:low"))
    by_name = {c.strategy: c for c in made.candidates}
    assert by_name["effort:low"].quality is not None
    assert by_name["effort:low"].utility is None  # no policy could have chosen it
    assert by_name["direct"].utility is not None
    assert by_name["learned:low"].excluded is not None
    assert sum(c.propensity for c in made.candidates) == 1


def test_the_preferences_that_were_used_are_recorded(decider: Decider) -> None:
    made = decider.decide(make_situation(context=make_context(BODY, n_queries=1)))
    assert made.preferences is not None
    assert Preferences(**made.preferences) == decider.preferences
    bounds = (made.predictability_low, made.predictability, made.predictability_high)
    assert None not in bounds
    assert list(bounds) == sorted(bounds, key=lambda x: x or 0.0)
    assert all((c.quality_low or 0) <= (c.quality or 0) for c in made.candidates)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        pytest.param("learned:low", "nothing was learned", id="cannot serve the request"),
        pytest.param("magic", "no such strategy", id="unknown"),
    ],
)
def test_what_cannot_be_forced_is_refused(decider: Decider, name: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decider.decide(make_situation(forced=name))


def test_without_a_context_nothing_is_said_about_it(decider: Decider) -> None:
    made = decider.decide(make_situation(chat(user("Hello"))))
    assert (made.context_id, made.predictability, made.expected_queries) == (None, None, None)
    assert np.isnan(made.features["ctx_chars"])


def test_history_counts_the_queries_before_this_one(decider: Decider) -> None:
    seen = make_context(BODY, created_at=40.0, n_queries=5, last_query_at=90.0)
    features = decider.features(make_situation(context=seen))
    assert features["hist_queries"] == 5
    assert features["hist_age_s"] == pytest.approx(60)
    assert features["hist_since_last_s"] == pytest.approx(10)
    ahead = replace(seen, created_at=200.0, last_query_at=200.0)
    features = decider.features(make_situation(context=ahead))  # another machine's clock
    assert (features["hist_age_s"], features["hist_since_last_s"]) == (0.0, 0.0)


def test_costs_count_what_is_read_and_what_is_cached(decider: Decider) -> None:
    def input_usd(name: str, **more: Any) -> float:
        made = decider.decide(make_situation(**more))
        found = {c.strategy: c for c in made.candidates}[name]
        assert found.cost_usd is not None
        assert found.output_tokens is not None
        return found.cost_usd - round(found.output_tokens) * PRICES.output / 1e6

    first = input_usd("direct", learned=make_learned(tokens=1000))
    assert first == pytest.approx(
        (round(len(DOCUMENT) / 4) + round(len(QUESTION) / 4) + 8) / 1e6, rel=1e-6
    )
    with_notes = input_usd("learned:low", learned=make_learned(tokens=1000))
    assert with_notes - first == pytest.approx(1000 / 1e6)
    again = make_context(BODY, n_queries=1)
    cached = input_usd("learned:low", learned=make_learned(tokens=1000), context=again)
    saved = (round(len(DOCUMENT) / 4) + 1000) * 0.9
    assert with_notes - cached == pytest.approx(saved / 1e6, rel=1e-6)


def test_an_unknown_price_is_not_zero(decider: Decider) -> None:
    made = decider.decide(make_situation(model="nobody-knows-it"))
    direct = made.candidates[0]
    assert direct.cost_usd is None
    assert direct.utility is not None
    assert "unknown cost" in made.reason


def test_contexts_and_learned_contexts_are_embedded_once(
    bundle: PolicyBundle, prices: PriceTable
) -> None:
    embedder = CountingEmbedder()
    decider = make_decider(bundle, prices, extractor=FeatureExtractor(embedder))
    for question in ("How much is clause 1?", "How much is clause 2?"):
        body = chat(system(DOCUMENT), user(question))
        decider.decide(make_situation(body, learned=make_learned()))
    assert embedder.embedded.count(DOCUMENT) == 1
    assert embedder.embedded.count(QUESTION) == 1  # the anticipated one
    assert embedder.embedded.count("How much is clause 2?") == 1


def test_a_new_version_of_a_learned_context_is_embedded_anew(decider: Decider) -> None:
    notes = make_learned().notes
    for learned in (make_learned(), make_learned(id="lc_2", notes=notes * 4)):
        features = decider.features(make_situation(learned=learned))
        assert features["art_notes"] == len(learned.notes)


def test_the_caches_forget_what_was_used_least_recently() -> None:
    cache: _Cache[str] = _Cache(2)
    made: list[str] = []

    def get(key: str) -> str:
        def make() -> str:
            made.append(key)
            return key.upper()

        return cache.get(key, make)

    assert [get(key) for key in "abacab"] == ["A", "B", "A", "C", "A", "B"]
    assert made == ["a", "b", "c", "b"]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"tools": [{"type": "function"}]}, id="tools"),
        pytest.param({"response_format": {"type": "json_schema"}}, id="JSON schema"),
        pytest.param({"n": 2}, id="n"),
        pytest.param({"seed": 1}, id="seed"),
        pytest.param({"logprobs": True}, id="logprobs"),
    ],
)
@pytest.mark.parametrize("name", list(BY_NAME))
def test_what_cannot_serve_a_request_is_neither_drawn_nor_forced(
    decider: Decider, name: str, fields: dict[str, Any]
) -> None:
    situation = recalling({**BODY, **fields})
    serves = BY_NAME[name].excluded(situation.request) is None
    drawn = {decider.decide(situation).strategy for _ in range(40)}
    assert serves or name not in drawn
    if serves:
        assert decider.decide(replace(situation, forced=name)).strategy == name
    else:
        with pytest.raises(ValueError, match="cannot be forced"):
            decider.decide(replace(situation, forced=name))


def test_a_certain_note_answers_before_the_policy_is_asked(decider: Decider) -> None:
    decision = decider.decide(recalling(BODY))
    assert (decision.strategy, decision.mode, decision.propensity) == ("recall", "recalled", 1.0)
    assert sum(c.propensity for c in decision.candidates) == 1.0


def test_nothing_is_recalled_unless_the_server_allows_it(decider: Decider) -> None:
    for _ in range(40):
        decision = decider.decide(recalling(BODY, may_recall=False))
        assert decision.strategy in STRATEGIES
        assert "recall" not in {c.strategy for c in decision.candidates}
