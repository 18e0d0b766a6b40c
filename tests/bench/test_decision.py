"""Recorded queries are decided on as LightGBM itself would predict them, to the last bit."""

from __future__ import annotations

import random
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from bench.decision import PRICES, remembered, situations
from bench.publish import RECORDED
from bench.recordings import read_recordings
from forethought.models import foresight
from forethought.models.bundle import PolicyBundle, pretrained_dir
from forethought.models.embedding import WordLlamaEmbedder
from forethought.models.features import FeatureExtractor
from forethought.router.allocation import Preferences
from forethought.router.decision import Decider
from forethought.router.experience import Experience
from forethought.router.pricing import PriceTable
from forethought.router.records import Decision
from forethought.router.situation import Situation

EXTRACTOR = FeatureExtractor(WordLlamaEmbedder())
BUNDLE = PolicyBundle.load(pretrained_dir())


@pytest.fixture(scope="module")
def recorded() -> list[Situation]:
    found = situations(read_recordings(RECORDED)["qwen2.5-coder-1.5b"])[::50]
    unlearned = [replace(s, request=replace(s.request, learned=None)) for s in found]
    return [*found, *unlearned, *(replace(s, context=None) for s in found)]


@pytest.fixture(scope="module")
def past(recorded: list[Situation]) -> Experience:
    return remembered(EXTRACTOR, recorded)


@pytest.mark.parametrize("has_past", [True, False], ids=["a past", "no past"])
@pytest.mark.parametrize(
    "preferences",
    [
        pytest.param(Preferences(), id="the usual"),
        pytest.param(Preferences(max_latency_ms=5000.0, exploration=0.5), id="in time"),
        pytest.param(
            Preferences(exploration_kind="thompson", quality_margin=1.0), id="as sure as it is"
        ),
    ],
)
def test_recorded_queries_are_decided_on_as_lightgbm_predicts(
    recorded: list[Situation],
    past: Experience,
    preferences: Preferences,
    has_past: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def decided() -> list[Decision]:
        decider = Decider(
            extractor=EXTRACTOR, bundle=BUNDLE, prices=PriceTable({"m": PRICES}),
            preferences=preferences, rng=random.Random(0), experience=past if has_past else None,
        )  # fmt: skip
        return [decider.decide(situation) for situation in recorded]

    at_once = decided()
    monkeypatch.setattr(foresight, "forest_of", lambda _: None)
    for one, other in zip(at_once, decided(), strict=True):
        assert one.mode in {"greedy", "explored"}
        assert said(one) == said(other)


def said(decision: Decision) -> dict[str, Any]:
    """All of a decision but its id and what it was made from."""
    found = asdict(decision)
    assert np.isfinite(found["features"]["q_chars"])
    return {name: value for name, value in found.items() if name not in {"id", "features"}}
