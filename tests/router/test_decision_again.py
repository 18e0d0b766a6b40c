"""What a policy would have done is computed from the record of a decision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forethought.models.bundle import PolicyBundle
from forethought.router.allocation import Preferences
from forethought.router.blending import Blending
from forethought.router.candidates import target_probabilities
from forethought.router.decision import Decider
from forethought.router.log import LogReader, LogWriter, Store
from forethought.router.pricing import PriceTable
from forethought.router.records import (
    GradedAnswer,
    LoggedDecision,
)
from forethought.router.strategies import STRATEGIES
from tests.router.chats import (
    DOCUMENT,
    chat,
    make_context,
    make_learned,
    system,
    user,
)
from tests.router.deciding import BODY, PRICES, make_decider, make_situation


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
