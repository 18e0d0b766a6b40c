"""Deciders and situations for tests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from forethought.models.bundle import PolicyBundle
from forethought.models.embedding import Embeddings, HashEmbedder
from forethought.models.features import FeatureExtractor
from forethought.router.allocation import Preferences
from forethought.router.decision import Decider
from forethought.router.pricing import Prices, PriceTable
from forethought.router.records import (
    Context,
    LearnedContext,
    Note,
)
from forethought.router.situation import Situation
from forethought.router.strategies import Request
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


def recalling(body: dict[str, Any], *, may_recall: bool = True) -> Situation:
    note = Note(kind="computed", text=QUESTION, answer="36", confidence=1.0, verified=True)
    found = make_request(body, learned=make_learned(notes=(note,)))
    request = Request(body=body, split=found.split, learned=found.learned, may_recall=may_recall)
    return Situation(
        tenant="acme", model="m", request=request, context=make_context(body), now=20.0
    )


class CountingEmbedder(HashEmbedder):
    """Keeps the texts that it embedded."""

    def __init__(self) -> None:
        super().__init__()
        self.embedded: list[str] = []

    def embed(self, texts: Sequence[str]) -> Embeddings:
        self.embedded += texts
        return super().embed(texts)
