from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from forethought.models.bundle import PolicyBundle, pretrained_dir
from forethought.models.embedding import HashEmbedder
from forethought.models.features import FeatureExtractor
from forethought.router.allocation import Preferences
from forethought.router.decision import Decider
from forethought.router.log import LogReader, Store
from forethought.router.pricing import Prices, PriceTable
from forethought.router.records import Context, SleepLevel
from forethought.router.situation import Situation
from forethought.router.sleep.planner import SleepPlanner
from forethought.router.tiers import TieredPlan
from tests.router.chats import DOCUMENT, QUESTION, chat, make_context, make_request, system, user

BODY = chat(system(DOCUMENT), user(QUESTION))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(str(tmp_path_factory.mktemp("store") / "log.sqlite")) as store:
        yield store


@pytest.fixture(scope="module")
def bundle() -> PolicyBundle:
    return PolicyBundle.load(pretrained_dir())


def planned(store: Store, bundle: PolicyBundle, preferences: Preferences) -> TieredPlan:
    prices = PriceTable({"m": Prices(input=1.0, cached_input=0.1, output=4.0)})
    decider = Decider(
        extractor=FeatureExtractor(HashEmbedder()),
        bundle=bundle,
        prices=prices,
        preferences=preferences,
    )
    planner = SleepPlanner(
        decider=decider,
        reader=LogReader(store),
        sleeper=None,
        prices=prices,
        model="m",
        levels=[SleepLevel()],
    )
    context: Context = replace(make_context(BODY, n_queries=3), text=DOCUMENT)
    situation = Situation(
        tenant="t", model="m", request=make_request(BODY), context=context, now=1e6
    )
    return planner.plan(context, decider.features(situation))


def test_only_the_ratio_of_worth_to_the_multiplier_counts(
    store: Store, bundle: PolicyBundle
) -> None:
    base = Preferences(value_usd=0.01, latency_usd_per_s=0.0, quality_margin=1.0)
    doubled = replace(base, value_usd=0.02, cost_multiplier=2.0)
    first, second = planned(store, bundle, base), planned(store, bundle, doubled)
    assert second.saving_per_query_usd == pytest.approx(first.saving_per_query_usd)
    assert second.break_even == pytest.approx(first.break_even)


def test_what_a_sleep_costs_is_shown_in_dollars_whatever_they_are_worth(
    store: Store, bundle: PolicyBundle
) -> None:
    costs = {
        planned(store, bundle, Preferences(cost_multiplier=m)).sleep_cost_usd for m in (0.1, 1, 10)
    }
    assert len(costs) == 1
