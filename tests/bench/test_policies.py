"""Policies on recorded cases: what they get, and what they may choose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.allocation import estimated
from bench.costs import WHOLE
from bench.policies import ARMS, N_AWAKE, Cases, Router, fixed, oracle, outcome
from forethought.models.bundle import PolicyBundle, pretrained_dir
from forethought.models.embedding import WordLlamaEmbedder
from forethought.models.features import (
    ArtefactFacts,
    FeatureExtractor,
    HistoryFacts,
    RequestFacts,
)
from forethought.router.records import Usage

TEXT = "Tom has 3 boxes with 8 pens each. He gives 5 pens to his sister. Pens cost $2 each."
NOTE = ArtefactFacts(
    n_notes=1, n_questions=1, mean_confidence=1.0, verified_share=1.0, tokens=30,
    questions=("How many pens does Tom have left?",),
)  # fmt: skip


def cases(seed: int, *, n_contexts: int = 3, each: int = 2) -> Cases:
    """Random outcomes on contexts with features that fit; sleep found nothing on the last."""
    generator = np.random.default_rng(seed)
    n = n_contexts * each
    extractor = FeatureExtractor(WordLlamaEmbedder().load())
    context = extractor.context(TEXT)

    def features(artefact: ArtefactFacts | None) -> dict[str, float]:
        query = "How many pens does Tom have left?"
        return extractor.decision(context, query, artefact, HistoryFacts(), RequestFacts())

    place = np.repeat(np.arange(n_contexts), each)
    with_notes = features(NOTE)
    return Cases(
        query_ids=tuple(f"q{i}" for i in range(n)),
        context_ids=tuple(f"c{i}" for i in range(n_contexts)),
        datasets=("gsm8k",) * n,
        texts=(TEXT,) * n_contexts,
        context=place.astype(np.int64),
        quality=generator.integers(0, 2, (n, len(ARMS))).astype(float),
        price=generator.uniform(1, 300, (n, len(ARMS))),
        sleep_price=generator.uniform(100, 500, n_contexts),
        usage=[{arm.strategy: Usage(input_tokens=60) for arm in ARMS}] * n,
        awake=[features(None)] * n,
        asleep=[None if c == n_contexts - 1 else with_notes for c in place.tolist()],
    )


def test_a_query_pays_its_answer_at_test_time_and_its_share_of_the_sleep() -> None:
    own = cases(0)
    found = fixed(own, N_AWAKE, t=2.0, queries=10.0)
    expected = 2 * own.price[:, N_AWAKE] + own.sleep_price[own.context] / 10
    assert found.cost == pytest.approx(expected)
    assert found.quality == pytest.approx(own.quality[:, N_AWAKE])
    assert fixed(own, 0, t=2.0, queries=10.0).cost == pytest.approx(2 * own.price[:, 0])


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), value=st.sampled_from([10.0, 300.0, 1e4]))
def test_nothing_is_worth_more_than_hindsight(seed: int, value: float) -> None:
    own = cases(seed)
    generator = np.random.default_rng(seed)
    slept = generator.integers(0, 2, 3).astype(bool)
    allowed = np.where(slept[own.context], len(ARMS), N_AWAKE)
    chosen = generator.integers(0, allowed).astype(np.int64)
    # Two queries a context are recorded: then shares of sleep add up to the whole of it.
    best, other = (
        oracle(own, value, t=2.0, queries=2.0),
        outcome(own, slept, chosen, t=2.0, queries=2.0),
    )
    assert (value * best.quality - best.cost).sum() >= (value * other.quality - other.cost).sum()


def test_a_rule_that_knows_all_does_as_well_as_hindsight() -> None:
    own = cases(1)
    equal = Cases(**{**{f: getattr(own, f) for f in own.__dataclass_fields__},
                     "sleep_price": np.full(3, 200.0)})  # fmt: skip
    known = np.stack([equal.quality, equal.price], axis=-1)
    rule = estimated(equal, known, equal, t=1.0, queries=2.0)(500.0)
    best = oracle(equal, 500.0, t=1.0, queries=2.0)
    assert (rule.quality.tolist(), rule.cost.tolist()) == (
        best.quality.tolist(), best.cost.tolist(),
    )  # fmt: skip


def test_the_router_reads_notes_only_where_there_are_some() -> None:
    own = cases(2)
    router = Router(own, PolicyBundle.load(pretrained_dir()), WHOLE, t=10.0)
    awake = router.chooses(3000.0, np.zeros(3, bool))
    asleep = router.chooses(3000.0, np.ones(3, bool))
    assert set(awake.tolist()) <= set(range(N_AWAKE))
    assert set(asleep[own.context == 2].tolist()) <= set(range(N_AWAKE))
    # With a note on the very question, a chain of thought at ten times the price is not chosen.
    assert {ARMS[i].strategy for i in asleep[own.context < 2].tolist()} == {"learned:low"}


def test_the_router_sleeps_the_more_the_more_queries_will_come() -> None:
    own = cases(3)
    router = Router(own, PolicyBundle.load(pretrained_dir()), WHOLE, t=2.0)
    counts = [int(router.sleeps(3000.0, n).sum()) for n in (0.01, 1.0, 1000.0)]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[-1] == 3
