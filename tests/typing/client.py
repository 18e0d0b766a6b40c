"""The client's public types as a user meets them.

Checked by mypy and pyright, never run. Its name keeps pytest away.
"""

from __future__ import annotations

from typing import assert_type

import openai
from openai.pagination import AsyncCursorPage, SyncCursorPage
from openai.types.chat import ChatCompletion

from forethought.client import (
    AsyncForethought,
    Context,
    ContextDeleted,
    Decision,
    Feedback,
    Forethought,
    Learned,
    LearnedContexts,
    Route,
    SleepJob,
    decision_id,
    overhead_ms,
    strategy,
)


def takes_any_openai_client(client: openai.OpenAI) -> None:
    """Code written for the stock client takes ours."""


def ask(client: Forethought) -> None:
    takes_any_openai_client(client)
    reply = client.chat.completions.with_raw_response.create(
        model="auto", messages=[{"role": "user", "content": "Why?"}]
    )
    assert_type(reply.parse(), ChatCompletion)
    assert_type(decision_id(reply), str)
    assert_type(strategy(reply), str)
    assert_type(overhead_ms(reply), float)
    assert_type(client.feedback.create(decision_id(reply), 1.0), Feedback)
    assert_type(client.feedback.create(decision_id=decision_id(reply), quality=0.0), Feedback)
    assert_type(client.decisions.retrieve(decision_id(reply)), Decision)
    assert_type(client.decisions.preview(messages=[{"role": "user", "content": "Hi"}]), Route)


def stream(client: Forethought) -> None:
    chunks = client.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": "Why?"}], stream=True
    )
    assert_type(decision_id(chunks), str)


def register(client: Forethought) -> None:
    context = client.contexts.create(
        messages=[{"role": "system", "content": "A long document."}],
        sleep=True,
        level={"drafts": 2, "rounds": 1},
    )
    assert_type(context, Context)
    assert_type(context.learned, Learned | None)
    assert_type(client.contexts.create(text="A long document.", timeout=5), Context)
    assert_type(client.contexts.retrieve(context.id), Context)
    assert_type(client.contexts.list(limit=10), SyncCursorPage[Context])
    assert_type(client.contexts.learned(context.id), LearnedContexts)
    assert_type(client.contexts.sleep(context.id), SleepJob)
    assert_type(client.contexts.delete(context.id), ContextDeleted)


async def register_asynchronously(client: AsyncForethought) -> None:
    assert_type(await client.contexts.create(text="A long document."), Context)
    assert_type(await client.contexts.list(), AsyncCursorPage[Context])
    assert_type(await client.feedback.create("dec_1", 1.0), Feedback)
    assert_type(await client.decisions.retrieve("dec_1"), Decision)


def construct() -> None:
    assert_type(Forethought(), Forethought)
    assert_type(Forethought(timeout=30, max_retries=0).with_options(timeout=5), Forethought)
    AsyncForethought(base_url="http://127.0.0.1:8300/v1", api_key="key")
    Forethought(no_such_option=1)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
