"""The asynchronous client sends and reads what the synchronous one does."""

from __future__ import annotations

from forethought.client import AsyncForethought, decision_id
from tests.client.server import FakeForethought


async def test_contexts(async_client: AsyncForethought, fake: FakeForethought) -> None:
    context = await async_client.contexts.create(text="Ten eggs.", sleep=True)
    assert fake.last.body == {"text": "Ten eggs.", "sleep": True}
    assert (await async_client.contexts.retrieve(context.id)).hash == "abc"
    assert (await async_client.contexts.learned(context.id)).data[0].version == 2
    assert (await async_client.contexts.sleep(context.id)).status == "queued"
    assert (await async_client.contexts.plan(context.id))["sleep"] is False
    assert (await async_client.contexts.delete(context.id)).deleted


async def test_listing_follows_the_pages(async_client: AsyncForethought) -> None:
    page = await async_client.contexts.list()
    assert [context.id async for context in page] == ["ctx_1", "ctx_2", "ctx_3"]


async def test_feedback_on_the_decision_behind_a_reply(async_client: AsyncForethought) -> None:
    reply = await async_client.chat.completions.with_raw_response.create(
        model="small", messages=[{"role": "user", "content": "How many are left?"}]
    )
    feedback = await async_client.feedback.create(decision_id(reply), quality=1.0)
    decision = await async_client.decisions.retrieve(decision_id(reply))
    preview = await async_client.decisions.preview(messages=[{"role": "user", "content": "Hi"}])
    assert preview.strategy == decision.strategy
    assert (feedback.decision_id, decision.id) == ("dec_1", "dec_1")
