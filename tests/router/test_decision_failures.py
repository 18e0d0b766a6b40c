"""Whatever goes wrong in a decision, ``direct`` is served, and the record says so."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from forethought.models.bundle import PolicyBundle
from forethought.models.calibration import Floats, Interval
from forethought.models.embedding import Embeddings
from forethought.models.features import FeatureExtractor
from forethought.router.decision import Decider
from forethought.router.pricing import PriceTable
from forethought.router.strategies import STRATEGIES
from tests.router.chats import (
    make_learned,
)
from tests.router.deciding import BODY, make_decider, make_situation, recalling


class Broken:
    """A calibration that raises, or that finds ``value``."""

    def __init__(self, value: float | None = None) -> None:
        self._value = value

    def __call__(self, predicted: Floats) -> Interval:
        if self._value is None:
            raise RuntimeError("corrupt calibration")
        broken = np.full(len(predicted), self._value)
        return Interval(mean=broken, low=broken, high=broken)


def broken(bundle: PolicyBundle, **parts: Any) -> PolicyBundle:
    """``bundle`` with another part of its model of outcomes."""
    return replace(bundle, outcome=replace(bundle.outcome, **parts))


class BrokenEmbedder:
    dim = 64

    def embed(self, texts: Sequence[str]) -> Embeddings:
        raise RuntimeError("no vectors")


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"calibration": Broken()}, id="raises"),
        pytest.param({"calibration": Broken(np.nan)}, id="quality is no number"),
        pytest.param({"calibration": Broken(np.inf)}, id="quality is infinite"),
        pytest.param({"mean_ratio": {"tokens": np.nan, "latency_ms": 1.0}}, id="tokens are none"),
        pytest.param({"mean_ratio": {"tokens": 1.0, "latency_ms": np.inf}}, id="takes for ever"),
    ],
)
def test_a_broken_model_falls_back_to_direct(
    bundle: PolicyBundle, prices: PriceTable, parts: dict[str, Any]
) -> None:
    decider = make_decider(broken(bundle, **parts), prices)
    made = decider.decide(make_situation(learned=make_learned()))
    assert (made.strategy, made.mode, made.propensity) == ("direct", "fallback", 1.0)
    assert made.reason == "direct, because the prediction failed."
    assert made.policy_version == bundle.version
    assert made.features
    assert [c.strategy for c in made.candidates if c.propensity] == ["direct"]


@pytest.mark.parametrize("forced", ["learned:low", "vote:3"])
def test_a_forced_strategy_is_served_also_where_nothing_can_be_predicted(
    bundle: PolicyBundle, prices: PriceTable, forced: str
) -> None:
    decider = make_decider(broken(bundle, calibration=Broken()), prices)
    made = decider.decide(make_situation(learned=make_learned(), forced=forced))
    assert (made.strategy, made.mode, made.propensity) == (forced, "forced", 1.0)
    assert {c.quality for c in made.candidates} == {None}


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


def test_notes_that_cannot_be_searched_do_not_stop_the_request(
    decider: Decider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("forethought.router.strategies.recall._not_plain", fail)
    assert decider.decide(recalling(BODY)).strategy in STRATEGIES
