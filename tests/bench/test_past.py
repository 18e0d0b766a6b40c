from __future__ import annotations

import math

import pytest

from bench.past import Past, precedents
from forethought.models.embedding import HashEmbedder
from forethought.models.features import FeatureExtractor
from forethought.models.history import Precedents

EXTRACTOR = FeatureExtractor(HashEmbedder())
CONTEXTS = {
    f"c{i}": (
        {"dataset": "gsm8k", "context": f"Ann has {i} apples."},
        {f"c{i}-q{j}": {"query": f"How many after {j} days?"} for j in range(3)},
    )
    for i in range(20)
}
QUALITIES = {q: {"direct": 0.0, "learned:low": 1.0} for _, own in CONTEXTS.values() for q in own}


def found(past: Past) -> dict[str, Precedents]:
    vectors = {n: EXTRACTOR.context(row["context"]) for n, (row, _) in CONTEXTS.items()}
    return precedents(CONTEXTS, QUALITIES, vectors, EXTRACTOR, past=past, surprisals={"c0-q0": 2.5})


def near(past: dict[str, Precedents]) -> dict[str, bool]:
    return {q: not math.isnan(p.values["near_similarity"]) for q, p in past.items()}


@pytest.mark.parametrize("past", ["alone", "together", "mixed"])
def test_a_contexts_own_queries_come_in_their_order(past: Past) -> None:
    known = found(past)
    for _, queries in CONTEXTS.values():
        asked = [known[q].queries for q in queries]
        assert [0 if one is None else len(one) for one in asked] == [0, 1, 2]
    assert math.isnan(known["c0-q0"].values["hist_surprisal"])
    assert known["c0-q1"].values["hist_surprisal"] == 2.5


def test_only_together_have_contexts_neighbours() -> None:
    assert not any(near(found("alone")).values())
    assert sum(near(found("together")).values()) >= len(QUALITIES) - 3
    assert 0 < sum(near(found("mixed")).values()) < len(QUALITIES) - 3


def test_right_is_what_the_learned_answers_had() -> None:
    shares = [p.values["tenant_right"] for p in found("together").values()]
    assert {s for s in shares if not math.isnan(s)} == {1.0}
