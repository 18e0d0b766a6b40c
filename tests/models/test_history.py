from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.models.embedding import HashEmbedder
from forethought.models.features import (
    DECISION_FEATURES,
    FeatureExtractor,
    HistoryFacts,
    RequestFacts,
)
from forethought.models.history import NO_PRECEDENTS, QUERIES, REMEMBERED, History, Vector

DIM = 8


def axis(i: int) -> Vector:
    vector = np.zeros(DIM, np.float32)
    vector[i % DIM] = 1.0
    return vector


def ask(history: History, name: str, at: float, **changes: object) -> None:
    given = {
        "tenant": "acme", "context_id": name, "application": None, "vector": axis(0),
        "query": axis(1), "at": at,
    }  # fmt: skip
    history.asked(**(given | changes))  # type: ignore[arg-type]


def values(history: History, name: str = "new", tenant: str = "acme") -> dict[str, float]:
    return dict(history.precedents(tenant, name, None, axis(0)).values)


def known(found: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in found.items() if not math.isnan(value)}


def test_what_was_never_seen_is_missing_not_zero() -> None:
    history = History()
    assert history.precedents("acme", "c", "app", axis(0)) is NO_PRECEDENTS
    assert set(NO_PRECEDENTS.values) == set(REMEMBERED)
    assert not known(dict(NO_PRECEDENTS.values))


def test_a_query_counts_for_its_context_and_its_tenant_and_no_other() -> None:
    history = History()
    ask(history, "c", 10.0, application="app")
    ask(history, "c", 40.0, application="app")
    found = known(dict(history.precedents("acme", "c", "app", axis(0)).values))
    of_tenant = {"queries": 2, "queries_per_context": 2, "gap_s": 30}
    assert found == {f"{w}_{n}": v for w in ("app", "tenant") for n, v in of_tenant.items()}
    assert history.precedents("other", "c", "app", axis(0)) is NO_PRECEDENTS


def test_right_is_the_judged_quality_from_the_learned_context() -> None:
    history = History()
    ask(history, "c", 0.0)
    history.judged("c", from_learned=True, quality=1.0)
    history.judged("c", from_learned=False, quality=0.0)
    found = values(history, "c")
    assert (found["hist_right"], found["hist_quality"], found["tenant_right"]) == (1.0, 0.5, 1.0)


def test_a_later_judgement_replaces_the_one_before() -> None:
    history = History()
    ask(history, "c", 0.0)
    history.judged("c", from_learned=True, quality=1.0)
    history.judged("c", from_learned=True, quality=0.25, before=1.0)
    assert values(history, "c")["hist_right"] == 0.25


def test_a_nearer_context_counts_more() -> None:
    history = History()
    near = (axis(0) + 0.1 * axis(1)) / np.float32(np.hypot(1, 0.1))
    for name, vector, quality in (("near", near, 1.0), ("far", axis(2), 0.0)):
        ask(history, name, 0.0, vector=vector)
        history.judged(name, from_learned=True, quality=quality)
    found = values(history)
    assert found["near_similarity"] == pytest.approx(0.995, abs=1e-3)
    assert found["near_right"] > 0.99


def test_a_context_is_no_neighbour_of_its_own() -> None:
    history = History()
    ask(history, "c", 0.0)
    assert math.isnan(values(history, "c")["near_similarity"])
    assert values(history, "another")["near_similarity"] == pytest.approx(1.0)


def test_the_nearest_earlier_query_is_found_among_the_latest() -> None:
    history = History()
    for i in range(QUERIES + 1):
        ask(history, "c", float(i), query=axis(3) if i == 0 else axis(4))
    found = history.precedents("acme", "c", None, axis(0))
    assert found.similarity(axis(4)) == pytest.approx(1.0)
    assert found.similarity(axis(3)) == 0.0  # the first is forgotten
    assert math.isnan(NO_PRECEDENTS.similarity(axis(4)))


def test_the_oldest_context_leaves_when_there_are_too_many() -> None:
    history = History(per_tenant=2)
    for at, name in enumerate(("a", "b", "a", "c")):
        ask(history, name, float(at))
    assert len(history) == 2
    assert values(history, "c")["tenant_queries"] == 3  # both of a, one of c


events = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from("xy"), st.floats(0, 1)), max_size=40
)


@given(told=events, gone=st.sampled_from("abcdef"))
def test_a_forgotten_context_leaves_no_trace(told: list[tuple[str, str, float]], gone: str) -> None:
    whole, without = History(), History()
    for history, leaves_out in ((whole, ""), (without, gone)):
        for at, (name, application, quality) in enumerate(told):
            if name != leaves_out:
                own = {"application": application, "vector": axis(ord(name))}
                ask(history, name, float(at), **own)
                history.judged(name, from_learned=quality > 0.5, quality=quality)
                history.scored(name, quality)
    whole.forget(gone)
    for name in "abcdef":
        for application in "xy":
            one, other = (
                h.precedents("acme", name, application, axis(0)).values for h in (whole, without)
            )
            assert dict(one) == pytest.approx(dict(other), nan_ok=True, abs=1e-9)


DRAWN = np.random.default_rng(0).normal(size=(6, DIM)).astype(np.float32)
PLACES = {
    name: vector / np.linalg.norm(vector) for name, vector in zip("abcdef", DRAWN, strict=True)
}
steps = st.lists(
    st.tuples(st.sampled_from(["asked", "judged", "forgotten"]), st.sampled_from("abcdef")),
    max_size=12,
)


@given(told=steps)
def test_neighbours_are_those_of_now_however_often_they_were_looked_for(
    told: list[tuple[str, str]],
) -> None:
    asked_often, n = History(per_tenant=4), len(told)
    for end in range(1, n + 1):
        asked_once = History(per_tenant=4)
        for at, step in enumerate(told[:end]):
            happened(asked_once, *step, at=float(at))
        happened(asked_often, *told[end - 1], at=float(end - 1))
        for name, vector in PLACES.items():
            often, once = (
                h.precedents("acme", name, None, vector).values for h in (asked_often, asked_once)
            )
            np.testing.assert_array_equal(list(often.values()), list(once.values()))


def happened(history: History, what: str, name: str, *, at: float) -> None:
    if what == "asked":
        ask(history, name, at, vector=PLACES[name])
    elif what == "judged":
        history.judged(name, from_learned=True, quality=at % 2)
    else:
        history.forget(name)


@given(told=events)
def test_every_value_is_in_the_range_of_its_feature(told: list[tuple[str, str, float]]) -> None:
    extractor, history = FeatureExtractor(HashEmbedder(DIM)), History()
    for at, (name, application, quality) in enumerate(told):
        ask(history, name, float(at), application=application, vector=axis(ord(name)))
        history.judged(name, from_learned=True, quality=quality)
        history.scored(name, 3.0)
    past = HistoryFacts(precedents=history.precedents("acme", "a", "x", axis(0)))
    row = extractor.decision(None, "Why?", None, past, RequestFacts(surprisal=2.0))
    assert list(row) == [feature.name for feature in DECISION_FEATURES]
    for feature in DECISION_FEATURES:
        value = row[feature.name]
        assert math.isnan(value) or feature.low - 1e-6 <= value <= feature.high + 1e-6
