"""``client.feedback``: say how good an answer was. It is what the next policy learns from."""

from __future__ import annotations

from typing import Any, Unpack

from openai import AsyncOpenAI, OpenAI

from forethought.client.calls import CallOptions, request_options, without_none
from forethought.client.replies import Feedback


def _judgement(
    decision_id: str, quality: float, comment: str | None, source: str | None
) -> dict[str, Any]:
    return without_none(decision_id=decision_id, quality=quality, comment=comment, source=source)


class FeedbackResource:
    """Judgements of answers; the latest one on a decision counts."""

    def __init__(self, client: OpenAI) -> None:
        self._client = client

    def create(
        self,
        decision_id: str,
        quality: float,
        comment: str | None = None,
        *,
        source: str | None = None,
        **call: Unpack[CallOptions],
    ) -> Feedback:
        """Record a judgement.

        Args:
            decision_id: The answer it is about: ``decision_id(reply)``.
            quality: From 0 (wrong) to 1 (right).
            comment: Words for people to read.
            source: Who judged, such as "user" or "grader".
            call: ``extra_headers`` and ``timeout`` of this one call.
        """
        return self._client.post(
            "/feedback",
            body=_judgement(decision_id, quality, comment, source),
            cast_to=Feedback,
            options=request_options(call),
        )


class AsyncFeedbackResource:
    """As ``FeedbackResource``, to be awaited."""

    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client

    async def create(
        self,
        decision_id: str,
        quality: float,
        comment: str | None = None,
        *,
        source: str | None = None,
        **call: Unpack[CallOptions],
    ) -> Feedback:
        """Record a judgement; see ``FeedbackResource.create``."""
        return await self._client.post(
            "/feedback",
            body=_judgement(decision_id, quality, comment, source),
            cast_to=Feedback,
            options=request_options(call),
        )
