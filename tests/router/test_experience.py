from __future__ import annotations

import asyncio
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from forethought.models.embedding import HashEmbedder
from forethought.models.features import FeatureExtractor
from forethought.models.history import NO_PRECEDENTS
from forethought.router.errors import StoreError
from forethought.router.experience import (
    APPLICATION_CHARS,
    Asked,
    Experience,
    Judged,
    Past,
    application_of,
)
from tests.router.chats import DOCUMENT, chat, make_context, system, user
from tests.router.deciding import CountingEmbedder

CONTEXT = replace(make_context(chat(system(DOCUMENT), user("Why?"))), id="ctx_1", tenant="acme")
EXTRACTOR = FeatureExtractor(HashEmbedder())
VECTOR = EXTRACTOR.context_embedding(CONTEXT.text)


def asked(at: float = 10.0) -> Asked:
    return Asked(at=at, context_id="ctx_1", query="Why?", created_at=at)


def judged(quality: float) -> Judged:
    return Judged(at=11.0, context_id="ctx_1", strategy="learned:low", quality=quality, before=None)


def count(experience: Experience) -> float:
    return experience.precedents(CONTEXT, VECTOR, "acme").values["tenant_queries"]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        pytest.param("Be brief.\n\nDoc one", "Be brief.\n\nDoc two", True, id="same rules"),
        pytest.param("Be brief.", "Be polite.", False, id="other rules"),
        pytest.param("x" * 600, "x" * APPLICATION_CHARS + "y", True, id="same beginning"),
    ],
)
def test_an_application_is_known_by_its_instructions(first: str, second: str, same: bool) -> None:
    one, other = application_of([system(first)]), application_of([system(second)])
    assert one is not None
    assert (one == other) is same


def test_without_a_system_prompt_there_is_no_application() -> None:
    assert application_of([user("Be brief.")]) is None
    assert application_of([]) is None
    assert application_of([system("")]) is None


def test_a_context_that_no_decision_looked_at_is_embedded_once() -> None:
    """Where there is no policy, nothing is predicted, and the past is kept for when there is."""
    embedder = CountingEmbedder()
    experience = Experience(FeatureExtractor(embedder))
    for at in (10.0, 11.0):
        experience.asked(asked(at), CONTEXT)
    assert embedder.embedded.count(CONTEXT.text) == 1
    assert count(experience) == 2


def test_what_comes_while_the_log_is_read_is_not_lost() -> None:
    experience, reading, go_on = Experience(EXTRACTOR), threading.Event(), threading.Event()

    def read(until: float) -> Past:
        reading.set()
        go_on.wait(5)
        return {"ctx_1": CONTEXT}, [asked(until - 1)]

    async def scenario() -> None:
        with ThreadPoolExecutor(1) as executor:
            loading = asyncio.create_task(experience.load(read, 9.0, executor))
            await asyncio.to_thread(reading.wait, 5)
            assert experience.precedents(CONTEXT, VECTOR, "acme") is NO_PRECEDENTS
            experience.asked(asked(), CONTEXT)
            experience.heard(judged(0.5))
            go_on.set()
            await loading

    asyncio.run(scenario())
    assert count(experience) == 2
    assert experience.precedents(CONTEXT, VECTOR, "acme").values["hist_right"] == 0.5


def test_a_context_deleted_while_the_log_is_read_stays_deleted() -> None:
    experience = Experience(EXTRACTOR)

    async def scenario() -> None:
        with ThreadPoolExecutor(1) as executor:
            past: Any = ({"ctx_1": CONTEXT}, [asked()])
            loading = asyncio.create_task(experience.load(lambda _: past, 20.0, executor))
            await asyncio.sleep(0)
            experience.forget("ctx_1")
            await loading

    asyncio.run(scenario())
    assert experience.precedents(CONTEXT, VECTOR, "acme") is NO_PRECEDENTS


def test_a_log_that_cannot_be_read_leaves_the_past_unknown() -> None:
    experience = Experience(EXTRACTOR)

    def read(_: float) -> Past:
        message = "gone"
        raise StoreError(message, param="store")

    async def scenario() -> None:
        with ThreadPoolExecutor(1) as executor:
            await experience.load(read, 9.0, executor)

    asyncio.run(scenario())
    assert experience.precedents(CONTEXT, VECTOR, "acme") is NO_PRECEDENTS
    experience.asked(asked(), CONTEXT)
    assert count(experience) == 1


def test_texts_that_are_not_kept_are_not_compared() -> None:
    experience = Experience(EXTRACTOR)
    experience.asked(replace(asked(), query=""), CONTEXT)
    found = experience.precedents(CONTEXT, VECTOR, "acme")
    assert math.isnan(found.similarity(EXTRACTOR.query_embedding("Why?")))
