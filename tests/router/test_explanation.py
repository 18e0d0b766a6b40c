"""An explanation is about the decision that was made, by the policy that made it."""

from __future__ import annotations

import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from forethought.models.bundle import PolicyBundle
from forethought.models.embedding import HashEmbedder
from forethought.models.features import FeatureExtractor
from forethought.router.allocation import Preferences
from forethought.router.decision import Decider
from forethought.router.explanation import Explanation, explain
from forethought.router.past_policies import FoundPolicy, PastPolicies
from forethought.router.pricing import Prices, PriceTable
from forethought.router.records import Decision
from forethought.router.registry import Registry
from forethought.router.situation import Situation
from tests.models.synthetic import fit_policy
from tests.router.chats import (
    DOCUMENT,
    chat,
    make_context,
    make_learned,
    make_request,
    system,
    user,
)

# At these the policy's choice differs from query to query.
PREFERENCES = Preferences(value_usd=0.01, quality_margin=0.1, exploration=0.0)


@pytest.fixture(scope="module")
def bundle() -> PolicyBundle:
    return fit_policy(60, seed=1)


@pytest.fixture(scope="module")
def prices() -> PriceTable:
    return PriceTable({"m": Prices(input=1.0, cached_input=0.1, output=4.0)})


def make_decider(bundle: PolicyBundle | None, prices: PriceTable, **changes: Any) -> Decider:
    return Decider(
        extractor=FeatureExtractor(HashEmbedder()),
        bundle=bundle,
        prices=prices,
        preferences=replace(PREFERENCES, **changes),
        rng=random.Random(1),
    )


def situation(n: int = 0, **changes: Any) -> Situation:
    body = chat(system(f"{n} {DOCUMENT * (1 + n % 3)}"), user(f"How much is clause {n % 5}?"))
    values: dict[str, Any] = {
        "tenant": "acme",
        "model": "m",
        "request": make_request(body, learned=make_learned()),
        "context": make_context(body, n_queries=1 + n % 2),
        "now": 100.0,
    }
    return Situation(**(values | changes))


def explained(decision: Decision, bundle: PolicyBundle) -> Explanation:
    assert decision.policy_version == bundle.version
    return explain(decision, FoundPolicy(version=bundle.version, bundle=bundle))


def text(explanation: Explanation) -> str:
    return "\n".join(line for lines in explanation.text.values() for line in lines)


def test_preferences_that_are_named_flip_the_router_itself(
    bundle: PolicyBundle, prices: PriceTable
) -> None:
    """Decide again on the very situation, by the preferences that the explanation names."""
    flipped = 0
    for n in range(12):
        found = explained(make_decider(bundle, prices).decide(situation(n)), bundle)
        for candidate in found.candidates:
            for change in candidate.changes:
                if change.lever not in {"quality", "cost_usd", "latency_ms"}:
                    again = make_decider(bundle, prices, **{change.lever: change.becomes})
                    assert again.decide(situation(n)).strategy == candidate.strategy, change
                    flipped += 1
    assert flipped > 10


def test_a_decision_is_explained_in_numbers_and_words(
    bundle: PolicyBundle, prices: PriceTable
) -> None:
    decision = make_decider(bundle, prices).decide(situation())
    found = explained(decision, bundle)
    assert found.strategy == found.policys_choice == decision.strategy
    assert found.runner_up not in {None, decision.strategy}
    assert found.preferences == asdict(PREFERENCES)
    assert found.missing == ()
    assert found.predictability is not None
    assert found.predictability.mean == decision.predictability
    assert found.expected_queries is not None
    assert found.expected_queries.mean == decision.expected_queries
    assert found.expected_queries.low >= 2  # one was seen, this is another
    for candidate, logged in zip(found.candidates, decision.candidates, strict=True):
        assert candidate.quality == logged.quality
        assert candidate.quality_low is not None
        assert candidate.quality_high is not None
        assert candidate.quality_low <= (candidate.quality or 0) <= candidate.quality_high
        assert candidate.strategy == decision.strategy or candidate.changes
        assert candidate.verdict
    assert found.difference is not None
    assert (found.difference.strategy, found.difference.against) == (
        decision.strategy,
        found.runner_up,
    )
    said = text(found)
    for part in ("Predictability", "Demand", "would be chosen if", "points higher", "odds ×"):
        assert part in said


def test_an_explored_decision_is_compared_with_the_policys_own_choice(
    bundle: PolicyBundle, prices: PriceTable
) -> None:
    decider = make_decider(bundle, prices, exploration=1.0)
    own = make_decider(bundle, prices).decide(situation()).strategy
    for _ in range(20):
        decision = decider.decide(situation())
        found = explained(decision, bundle)
        assert found.policys_choice == own
        if decision.strategy != own:
            assert found.difference is not None
            assert found.difference.against == own
            return
    pytest.fail("it never explored")


def test_a_forced_decision_says_what_the_policy_would_have_chosen(
    bundle: PolicyBundle, prices: PriceTable
) -> None:
    own = make_decider(bundle, prices).decide(situation()).strategy
    for forced in ("direct", "learned:high", "vote:3"):
        found = explained(make_decider(bundle, prices).decide(situation(forced=forced)), bundle)
        assert found.policys_choice == own
        assert f"would have chosen {own}" in text(found)
        assert found.missing == ()


def test_without_its_policy_a_decision_says_so_and_is_not_explained_by_another(
    bundle: PolicyBundle, prices: PriceTable
) -> None:
    decision = make_decider(bundle, prices).decide(situation())
    found = explain(decision, FoundPolicy(version=decision.policy_version, missing="it is gone"))
    assert found.difference is None
    assert found.predictability_rests_on is None
    assert found.expected_queries is None
    assert all(c.quality_high is not None and c.quality_low is not None for c in found.candidates)
    assert all(c.output_tokens_p50 is None for c in found.candidates)  # not in the record
    assert found.missing == ("Intervals and contributions are not known: it is gone.",)
    assert found.missing == found.text["missing"]
    # What rests on the record alone is still said.
    assert found.predictability is not None
    assert any(c.changes for c in found.candidates)


def test_changed_settings_do_not_change_the_why_of_earlier_decisions(
    bundle: PolicyBundle, prices: PriceTable
) -> None:
    decider = make_decider(bundle, prices)
    decision = decider.decide(situation())
    before = explained(decision, bundle)
    decider.preferences = Preferences(value_usd=1.0)
    assert explained(decision, bundle) == before


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        pytest.param({"preferences": None}, "were not logged yet", id="an older log"),
        pytest.param(
            {"preferences": asdict(PREFERENCES) | {"value_usd": 0.5}},
            "would not choose the same",
            id="utilities that do not follow",
        ),
        pytest.param(
            {"preferences": asdict(PREFERENCES) | {"courage": 1.0}},
            "would not choose the same",
            id="a newer version's preference",
        ),
    ],
)
def test_what_would_change_a_decision_is_not_said_where_it_cannot_be_made_again(
    bundle: PolicyBundle, prices: PriceTable, changes: dict[str, Any], why: str
) -> None:
    decision = replace(make_decider(bundle, prices).decide(situation()), **changes)
    found = explained(decision, bundle)
    assert not any(c.changes for c in found.candidates)
    assert {c.within_bound for c in found.candidates} == {None}
    assert any(why in line for line in found.missing)
    assert found.policys_choice == decision.strategy


def test_nothing_that_was_not_predicted_is_explained(
    bundle: PolicyBundle, prices: PriceTable
) -> None:
    decision = make_decider(None, prices).decide(situation())
    found = explain(decision, PastPolicies(Registry(Path("none"))).find("none"))
    assert found.policys_choice is None
    assert found.difference is None
    assert found.text["choice"] == ("direct, because no policy is loaded.",)
    assert "no policy was loaded" in found.missing[0]


def test_past_policies_are_found_where_they_are_kept(bundle: PolicyBundle, tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    past = PastPolicies(registry, shipped=bundle.save(tmp_path / "shipped"))
    assert past.find(bundle.version, bundle).bundle is bundle
    shipped = past.find(bundle.version).bundle
    assert shipped is not None
    assert past.find(bundle.version).bundle is shipped  # read once
    gone = PastPolicies(registry, shipped=tmp_path / "none")
    assert "not kept here any more" in (gone.find(bundle.version).missing or "")
    assert "not kept here any more" in (gone.find("../etc").missing or "")
    registry.save(bundle)
    assert gone.find(bundle.version).bundle is not None


def test_a_damaged_policy_is_said_to_be_unreadable(bundle: PolicyBundle, tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.save(bundle)
    (registry.path(bundle.version) / "demand.json").write_text("{}")
    found = PastPolicies(registry, shipped=tmp_path / "none").find(bundle.version)
    assert found.bundle is None
    assert "cannot be read" in (found.missing or "")
    assert str(tmp_path) not in (found.missing or "")
