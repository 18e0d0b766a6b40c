"""What the planner offers and queues: levels, tiers, and more sleep where it was slept before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from forethought.models.bundle import PolicyBundle, pretrained_dir
from forethought.models.embedding import WordLlamaEmbedder
from forethought.models.features import FeatureExtractor, HistoryFacts, RequestFacts
from forethought.router.allocation import Preferences
from forethought.router.decision import Decider
from forethought.router.log import LogReader
from forethought.router.pricing import Prices, PriceTable
from forethought.router.records import Context, LearnedContext, Note, SleepLevel, Usage
from forethought.router.sleep.planner import SleepPlanner
from forethought.router.sleep.typical import Typical, road_of, usage_of
from forethought.router.sleep.workflow import Sleeper
from tests.fake_upstream import FakeUpstreamServer
from tests.router.log.factories import make_context
from tests.router.sleeping import DRAFT, TEXT, running_sleeper

PENS = "Tom has 3 boxes with 8 pens each. He gives 5 pens away. Pens cost $2 each. " * 2
CHEAPEST = Preferences(value_usd=0.0, latency_usd_per_s=0.0)
STORY = "Once upon a time a fox lived in a wood and was friends with a hare. " * 5


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    return FeatureExtractor(WordLlamaEmbedder().load())


@pytest.fixture(scope="module")
def features(extractor: FeatureExtractor) -> dict[str, float]:
    context = extractor.context(PENS)
    return extractor.decision(context, "How many?", None, HistoryFacts(), RequestFacts())


def planner(
    extractor: FeatureExtractor,
    *,
    reader: LogReader | None = None,
    sleeper: Sleeper | None = None,
    tier_waits_s: Mapping[str, float] | None = None,
) -> SleepPlanner:
    prices = PriceTable({"m": Prices(input=0.25, cached_input=0.025, output=1.0)})
    return SleepPlanner(
        decider=Decider(
            extractor=extractor,
            bundle=PolicyBundle.load(pretrained_dir()),
            prices=prices,
            preferences=CHEAPEST,
        ),
        reader=reader,  # type: ignore[arg-type]  # plans read no store
        sleeper=sleeper,
        prices=prices,
        model="m",
        tier_waits_s=tier_waits_s,
    )


def context(n_queries: int, text: str = PENS) -> Context:
    return Context(
        id="c", tenant="t", hash="h", messages=(), text=text, created_at=0.0, n_queries=n_queries
    )


def learned(level: str, *notes: Note) -> LearnedContext:
    return LearnedContext(
        id="l", context_id="c", version=1, level=level, model="m", notes=notes, text="", tokens=9,
        usage=Usage(), cost_usd=0.0, created_at=0.0,
    )  # fmt: skip


NOTE = Note(kind="computed", text="How many pens?", answer="24")


def test_every_level_is_offered_and_more_thought_costs_more(
    extractor: FeatureExtractor, features: dict[str, float]
) -> None:
    offers = planner(extractor).offers(context(1), features)
    assert [o.level.name for o in offers] == ["k1r1", "k3r1", "k10r1"]
    costs = [o.cost_usd for o in offers]
    assert costs == sorted(costs)
    assert costs[0] > 0
    durations = [o.duration_s for o in offers]
    assert durations == sorted(durations)


def test_only_the_standard_tier_is_there_until_others_are_named(
    extractor: FeatureExtractor, features: dict[str, float]
) -> None:
    busy = context(500)
    assert planner(extractor).plan(busy, features).tier == "standard"
    with_flex = planner(extractor, tier_waits_s={"flex": 60.0})
    assert with_flex.plan(busy, features).tier in {"standard", "flex"}
    at_once = planner(extractor, tier_waits_s={"flex": 0.0}).plan(busy, features)
    assert at_once.tier == "flex"
    named = {o.level.name: o.cost_usd for o in planner(extractor).offers(busy, features)}
    assert at_once.level is not None
    assert at_once.sleep_cost_usd == pytest.approx(0.5 * named[at_once.level])


def test_a_tier_without_a_price_is_left_out(
    extractor: FeatureExtractor, features: dict[str, float]
) -> None:
    unknown = planner(extractor, tier_waits_s={"night": 0.0})
    assert unknown.plan(context(500), features).tier == "standard"


def test_where_it_was_slept_before_only_what_a_higher_level_adds_counts(
    extractor: FeatureExtractor, features: dict[str, float]
) -> None:
    own = planner(extractor)
    fresh = {o.level.name: o for o in own.offers(context(9), features)}
    more = own.offers(context(9), features, learned=learned("k1r1", NOTE))
    assert [o.level.name for o in more] == ["k3r1", "k10r1"]
    for offer in more:
        name = offer.level.name
        extra = fresh[name].saving_per_query_usd - fresh["k1r1"].saving_per_query_usd
        assert offer.saving_per_query_usd == pytest.approx(extra)
        assert offer.cost_usd == fresh[name].cost_usd


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(learned("k10r1", NOTE), id="the highest level"),
        pytest.param(learned("k1r1"), id="sleep that found nothing"),
    ],
)
def test_no_more_sleep_is_bought_where_there_is_none_to_buy(
    extractor: FeatureExtractor, features: dict[str, float], before: LearnedContext
) -> None:
    made = planner(extractor).plan(context(5000), features, learned=before)
    assert not made.buy
    assert made.level is None


def test_a_context_that_came_once_is_not_slept_on_and_a_busy_one_is(
    extractor: FeatureExtractor, features: dict[str, float]
) -> None:
    own = planner(extractor)
    assert not own.plan(context(1), features).buy
    assert own.plan(context(200), features).buy


def test_a_plan_depends_on_nothing_that_comes_after_it(
    extractor: FeatureExtractor, features: dict[str, float]
) -> None:
    own, early = planner(extractor), context(3)
    before = own.plan(early, features)
    for n in range(4, 30):
        own.plan(replace(early, n_queries=n, last_query_at=1000.0 * n), features)
    assert own.plan(early, features) == before


@pytest.mark.parametrize(
    ("text", "road"),
    [pytest.param(PENS, "quantities", id="numbers"), pytest.param(STORY, "questions", id="story")],
)
def test_the_forecast_usage_is_that_of_the_calls_that_the_writer_makes(
    text: str, road: str
) -> None:
    found = road_of(text)
    assert found == road
    one, ten = (usage_of(found, SleepLevel(drafts=k), 100) for k in (1, 10))
    assert 0 <= one.cached_tokens < one.input_tokens < ten.input_tokens
    assert one.output_tokens < ten.output_tokens
    assert ten.cached_tokens < ten.input_tokens


def test_a_level_is_found_by_its_name() -> None:
    assert SleepLevel.named("k10r2") == SleepLevel(drafts=10, rounds=2)
    for wrong in ("k0r1", "k3", "3r1", "k3r1x"):
        with pytest.raises(ValueError, match="such as k3r1"):
            SleepLevel.named(wrong)


def test_more_sleep_follows_on_a_busy_context_once_the_first_is_done(
    tmp_path: Path,
    extractor: FeatureExtractor,
    features: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What a policy thinks of levels is not what this is about: more notes save more.
    monkeypatch.setattr(
        SleepPlanner,
        "_saving",
        lambda *given: next(x for x in given if isinstance(x, Typical)).tokens,
    )
    with (
        FakeUpstreamServer(answers={TEXT: DRAFT}) as fake,
        running_sleeper(tmp_path, fake.base_url) as sleeping,
    ):
        own = planner(extractor, reader=sleeping.reader, sleeper=sleeping.sleeper)
        known = replace(make_context(0, text=TEXT), n_queries=400)
        sleeping.writer.write_sync(known)
        sleeping.sleeper.enqueue(known, SleepLevel(drafts=1))
        assert own.after_reply(known, features) is None  # one sleep at a time
        assert sleeping.wait_until_ended(0) == "done"
        made = own.after_reply(known, features)
        assert made is not None
        assert made.buy
        assert sleeping.wait_until_ended(0) == "done"
        assert (sleeping.learned(0).level, sleeping.learned(0).version) == (made.level, 2)
        assert made.level == "k10r1"
        after = own.after_reply(known, features)
        assert after is not None
        assert not after.buy
