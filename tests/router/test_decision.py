from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forethought.models.bundle import PolicyBundle
from forethought.models.demand import DemandModel
from forethought.models.embedding import Embeddings, HashEmbedder
from forethought.models.features import DECISION_FEATURES, FEATURE_VERSION, FeatureExtractor
from forethought.models.outcome import OutcomePrediction
from forethought.models.predictability import PredictabilityModel
from forethought.router.allocation import Preferences
from forethought.router.blending import Blending
from forethought.router.candidates import target_probabilities
from forethought.router.decision import Decider
from forethought.router.log import LogReader, LogWriter, Store
from forethought.router.pricing import Prices, PriceTable
from forethought.router.records import (
    Candidate,
    Context,
    GradedAnswer,
    LearnedContext,
    LoggedDecision,
    Note,
)
from forethought.router.situation import Situation, _Cache
from forethought.router.strategies import BY_NAME, STRATEGIES, Request
from tests.models.synthetic import fit_outcome, make_decisions
from tests.router.chats import (
    DOCUMENT,
    QUESTION,
    chat,
    make_context,
    make_learned,
    make_request,
    system,
    user,
)

PRICES = Prices(input=1.0, cached_input=0.1, output=4.0)
BODY = chat(system(DOCUMENT), user(QUESTION))


@pytest.fixture(scope="module")
def bundle() -> PolicyBundle:
    return _fitted(seed=1)


@pytest.fixture(scope="module")
def other_bundle() -> PolicyBundle:
    return _fitted(seed=2)


@pytest.fixture(scope="module")
def prices() -> PriceTable:
    return PriceTable({"m": PRICES})


@pytest.fixture
def decider(bundle: PolicyBundle, prices: PriceTable) -> Decider:
    return make_decider(bundle, prices)


def _fitted(*, seed: int) -> PolicyBundle:
    data = make_decisions(24, seed=seed)
    predictability = PredictabilityModel.fit(data.rows, data.quality, data.groups, seed=0)
    return PolicyBundle.build(
        predictability=predictability, outcome=fit_outcome(data), demand=DemandModel()
    )


def make_decider(bundle: PolicyBundle | None, prices: PriceTable, **changes: Any) -> Decider:
    values: dict[str, Any] = {
        "extractor": FeatureExtractor(HashEmbedder()),
        "bundle": bundle,
        "prices": prices,
        "preferences": Preferences(exploration=0.2),
        "rng": random.Random(1),
    }
    return Decider(**(values | changes))


def make_situation(
    body: dict[str, Any] = BODY,
    *,
    learned: LearnedContext | None = None,
    context: Context | None = None,
    **changes: Any,
) -> Situation:
    values: dict[str, Any] = {
        "tenant": "acme",
        "model": "m",
        "request": make_request(body, learned=learned),
        "context": context,
        "now": 100.0,
    }
    return Situation(**(values | changes))


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


@pytest.mark.parametrize("forced", ["learned:low", "vote:3"])
def test_a_forced_strategy_is_served_also_where_nothing_can_be_predicted(
    bundle: PolicyBundle, prices: PriceTable, forced: str
) -> None:
    outcome: Any = BrokenOutcome(None)
    decider = make_decider(replace(bundle, outcome=outcome), prices)
    made = decider.decide(make_situation(learned=make_learned(), forced=forced))
    assert (made.strategy, made.mode, made.propensity) == (forced, "forced", 1.0)
    assert {c.quality for c in made.candidates} == {None}


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


_PREDICTED = tuple(field.name for field in fields(OutcomePrediction))


class BrokenOutcome:
    """Predicts nothing, or not a number."""

    def __init__(self, value: float | None) -> None:
        self.value = value

    def predict(self, X: Any) -> Any:  # noqa: N803 - the model's name for it
        if self.value is None:
            raise RuntimeError("corrupt booster")
        broken = np.full(len(X), self.value)
        return type("Prediction", (), dict.fromkeys(_PREDICTED, broken))


class BrokenEmbedder:
    dim = 64

    def embed(self, texts: Sequence[str]) -> Embeddings:
        raise RuntimeError("no vectors")


@pytest.mark.parametrize("value", [None, np.nan, np.inf], ids=["raises", "nan", "infinite"])
def test_a_broken_model_falls_back_to_direct(
    bundle: PolicyBundle, prices: PriceTable, value: float | None
) -> None:
    outcome: Any = BrokenOutcome(value)
    decider = make_decider(replace(bundle, outcome=outcome), prices)
    made = decider.decide(make_situation(learned=make_learned()))
    assert (made.strategy, made.mode, made.propensity) == ("direct", "fallback", 1.0)
    assert made.reason == "direct, because the prediction failed."
    assert made.policy_version == bundle.version
    assert made.features
    assert [c.strategy for c in made.candidates if c.propensity] == ["direct"]


def test_broken_features_fall_back_to_direct(bundle: PolicyBundle, prices: PriceTable) -> None:
    decider = make_decider(bundle, prices, extractor=FeatureExtractor(BrokenEmbedder()))
    made = decider.decide(make_situation())
    assert (made.strategy, made.mode, made.features) == ("direct", "fallback", {})
    assert made.reason == "direct, because the features could not be computed."
    forced = decider.decide(make_situation(forced="effort:low"))
    assert (forced.strategy, forced.mode) == ("effort:low", "forced")


def test_without_a_policy_direct_is_taken(prices: PriceTable) -> None:
    decider = make_decider(None, prices)
    made = decider.decide(make_situation())
    assert (made.strategy, made.mode) == ("direct", "fallback")
    assert (made.policy_version, made.predictability) == ("none", None)
    assert made.reason == "direct, because no policy is loaded."
    assert made.features


def test_a_failure_outside_the_decision_is_recorded_as_a_fallback(decider: Decider) -> None:
    made = decider.fall_back(make_situation(), "effort:low could not be prepared")
    assert (made.strategy, made.mode, made.propensity) == ("direct", "fallback", 1.0)
    assert made.reason == "direct, because effort:low could not be prepared."


def test_the_record_names_the_policy_that_decided_also_when_it_is_replaced_meanwhile(
    decider: Decider, bundle: PolicyBundle, other_bundle: PolicyBundle
) -> None:
    class Swapping(random.Random):
        def choices(self, *args: Any, **options: Any) -> Any:
            decider.bundle = other_bundle
            return super().choices(*args, **options)

    decider._rng = Swapping(1)
    assert decider.decide(make_situation()).policy_version == bundle.version
    assert decider.decide(make_situation()).policy_version == other_bundle.version


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


class CountingEmbedder(HashEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.embedded: list[str] = []

    def embed(self, texts: Sequence[str]) -> Embeddings:
        self.embedded += texts
        return super().embed(texts)


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


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "log.sqlite")) as store:
        yield store


@pytest.mark.parametrize("model", ["m", "nobody-knows-it"], ids=["priced", "without a price"])
def test_the_target_probabilities_of_the_logging_policy_are_the_logged_propensities(
    bundle: PolicyBundle, prices: PriceTable, store: Store, model: str
) -> None:
    preferences = Preferences(exploration=0.3, latency_usd_per_s=0.0001)
    decider = make_decider(bundle, prices, preferences=preferences)
    with LogWriter(store) as writer:
        for n in range(30):
            body = chat(system(f"{n} {DOCUMENT * (n % 4)}"), user(f"How much is clause {n}?"))
            learned = make_learned(tokens=100 * n) if n % 3 else None
            context = make_context(body, id=f"ctx_{n}", n_queries=n % 2)
            situation = make_situation(body, learned=learned, context=context, model=model)
            writer.write_sync(replace(decider.decide(situation), context_id=None))
    logged = list(LogReader(store).logged_decisions())
    assert len(logged) == 30
    for row in logged:
        found = target_probabilities(row, bundle, preferences, prices.lookup(model))
        assert found == {c.strategy: c.propensity for c in row.decision.candidates}


def test_another_policys_target_probabilities_keep_the_logged_exclusions(
    decider: Decider, other_bundle: PolicyBundle
) -> None:
    logged = LoggedDecision(decision=decider.decide(make_situation()))
    found = target_probabilities(logged, other_bundle, Preferences(exploration=0.0), PRICES)
    assert sum(found.values()) == 1
    assert found["learned:low"] == found["learned:high"] == 0
    assert set(found) == set(STRATEGIES)


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


def test_notes_that_cannot_be_searched_do_not_stop_the_request(
    decider: Decider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("forethought.router.strategies.recall._not_plain", fail)
    assert decider.decide(recalling(BODY)).strategy in STRATEGIES


def recalling(body: dict[str, Any], *, may_recall: bool = True) -> Situation:
    note = Note(kind="computed", text=QUESTION, answer="36", confidence=1.0, verified=True)
    found = make_request(body, learned=make_learned(notes=(note,)))
    request = Request(body=body, split=found.split, learned=found.learned, may_recall=may_recall)
    return Situation(
        tenant="acme", model="m", request=request, context=make_context(body), now=20.0
    )


@pytest.mark.parametrize("kind", ["epsilon", "softmax", "thompson"])
def test_a_blended_decision_can_be_made_again_from_its_record(
    bundle: PolicyBundle, other_bundle: PolicyBundle, prices: PriceTable, tmp_path: Path, kind: Any
) -> None:
    blending = Blending()
    blending.begin(bundle.version, concentration=5.0)
    preferences = Preferences(exploration_kind=kind, quality_margin=0.5)
    decider = make_decider(bundle, prices, blending=blending, preferences=preferences)
    situation = make_situation(learned=make_learned(), context=make_context(BODY))
    for n in range(8):
        made = decider.decide(situation)
        answered = next(c for c in made.candidates if c.strategy == made.strategy)
        blending.judged(
            bundle.version,
            GradedAnswer(
                decision_id=made.id, tenant="acme", model="m", context_id=f"ctx_{n}",
                candidate=answered, quality=0.0,
            ),
        )  # fmt: skip
    made = decider.decide(situation)
    assert any(c.offset for c in made.candidates)
    with Store.open(str(tmp_path / "log.sqlite")) as store:
        with LogWriter(store) as writer:
            writer.write_sync(made)
        (logged,) = LogReader(store).logged_decisions()
    again = target_probabilities(logged, bundle, preferences, PRICES)
    assert again == pytest.approx({c.strategy: c.propensity for c in made.candidates}, abs=1e-9)
    # Another policy would start without these answers.
    unmoved = make_decider(other_bundle, prices, preferences=preferences).decide(situation)
    other = target_probabilities(logged, other_bundle, preferences, PRICES)
    assert other == pytest.approx({c.strategy: c.propensity for c in unmoved.candidates}, abs=1e-9)


def test_blending_leaves_alone_what_nobody_judged(bundle: PolicyBundle, prices: PriceTable) -> None:
    blending = Blending()
    blending.begin(bundle.version, concentration=5.0)
    plain = make_decider(bundle, prices).decide(make_situation())
    blended = make_decider(bundle, prices, blending=blending).decide(make_situation())
    for a, b in zip(plain.candidates, blended.candidates, strict=True):
        assert (a.quality, a.propensity) == (b.quality, b.propensity)
        if a.quality is not None:  # it may be another's quality: less is sure of it
            assert (b.quality_low or 0) < (a.quality_low or 0)
            assert (b.quality_high or 0) > (a.quality_high or 0)
