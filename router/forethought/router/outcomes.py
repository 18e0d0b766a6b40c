"""What came of a request: read off the reply, with estimates where the upstream says nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from forethought.models.errors import ForethoughtError
from forethought.router.context import text_of
from forethought.router.dialects.faults import parsed
from forethought.router.errors import UpstreamError, UpstreamTimeout
from forethought.router.pricing import Prices, cost
from forethought.router.records import Outcome, OutcomeStatus, Usage
from forethought.router.sleep.writer import estimated_tokens
from forethought.router.sse import Seen, error_text, tier_of, usage_of
from forethought.router.upstream.base import UpstreamReply

CANCELLED_STATUS: Final = 499
"""What nginx logs when the client hung up; no reply carries it."""

ESTIMATED: Final = "the upstream reported no usage; tokens are estimated"
_HUNG_UP: Final = "the client hung up"


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCall:
    """A call after which another model was asked. ``cost_usd`` is None where it is unknown."""

    model: str
    why: str
    usage: Usage
    cost_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What every outcome of one request shares."""

    decision_id: str
    sent: Mapping[str, Any]
    """The body that went upstream."""
    prices: Callable[[str | None], Prices | None]
    """The prices at a service tier."""
    log_text: bool
    began: float

    def _outcome(
        self,
        status: OutcomeStatus,
        http_status: int,
        *,
        usage: Usage | None = None,
        service_tier: str | None = None,
        answer: str | None = None,
        finish_reason: str | None = None,
        error: str | None = None,
        seen: Seen | None = None,
    ) -> Outcome:
        first_at = None if seen is None else seen.first_at
        tier = service_tier if seen is None else seen.service_tier
        return Outcome(
            decision_id=self.decision_id,
            status=status,
            http_status=http_status,
            usage=usage or Usage(),
            cost_usd=None if usage is None else cost(usage, self.prices(tier)),
            latency_ms=1000 * (time.perf_counter() - self.began),
            ttft_ms=None if first_at is None else 1000 * (first_at - self.began),
            finish_reason=finish_reason,
            error=error,
            finished_at=time.time(),
            service_tier=tier,
            answer=answer if self.log_text else None,
        )

    def whole(self, reply: UpstreamReply) -> Outcome:
        """The outcome of a reply that came in one piece."""
        try:
            said = json.loads(reply.body)
        except (ValueError, RecursionError):
            said = None
        if reply.status >= 400 or not isinstance(said, dict):
            error = error_text(said) if self.log_text else None
            return self._outcome(
                "upstream_error",
                reply.status,
                error=error or f"HTTP status {reply.status}" if said else "the reply is not JSON",
            )
        answer, finish_reason = first_choice(said)
        usage = usage_of(said.get("usage"))
        return self._outcome(
            "ok",
            reply.status,
            usage=usage or self._estimate(estimated_tokens(answer)),
            service_tier=tier_of(said),
            answer=answer,
            finish_reason=finish_reason,
            error=ESTIMATED if usage is None else None,
        )

    def streamed(self, seen: Seen, http_status: int) -> Outcome:
        """The outcome of a stream that ended in order, or said itself what went wrong."""
        usage = seen.usage or self._estimate(seen.pieces)
        broken = seen.error is not None
        return self._outcome(
            "upstream_error" if broken else "ok",
            http_status,
            usage=usage,
            answer=seen.text,
            finish_reason=seen.finish_reason,
            error=seen.error if broken else ESTIMATED if seen.usage is None else None,
            seen=seen,
        )

    def failed(self, error: ForethoughtError, seen: Seen | None = None) -> Outcome:
        """The outcome of a call that could not be made, or broke off after ``seen``."""
        return self._outcome(
            "timeout" if isinstance(error, UpstreamTimeout) else "upstream_error",
            error.http_status,
            usage=None if seen is None else seen.usage or self._estimate(seen.pieces),
            answer=None if seen is None else seen.text,
            error=error.message,
            seen=seen,
        )

    def cancelled(self, seen: Seen | None = None) -> Outcome:
        """The outcome where the client hung up after ``seen``; what was used, it still costs."""
        estimated = seen is None or seen.usage is None
        seen = seen or Seen()
        return self._outcome(
            "cancelled",
            CANCELLED_STATUS,
            usage=seen.usage or self._estimate(seen.pieces),
            answer=seen.text,
            error=f"{_HUNG_UP}; tokens are estimated" if estimated else _HUNG_UP,
            seen=seen,
        )

    def broken(self, error: Exception, seen: Seen | None = None) -> Outcome:
        """The outcome where a fault of our own ended the request after ``seen``."""
        return self._outcome(
            "failed",
            500,
            usage=None if seen is None else seen.usage or self._estimate(seen.pieces),
            error=type(error).__name__,
            seen=seen,
        )

    def failed_call(self, failure: UpstreamReply | UpstreamError) -> FailedCall:
        """What a call cost of which nothing came.

        A refusal is free unless it says otherwise. One that may still be worked on has had its
        input read.
        """
        used, tier, why = Usage(), None, "not reached"
        if isinstance(failure, UpstreamReply):
            why = f"HTTP status {failure.status}"
            if isinstance(said := parsed(failure.body), dict):
                used, tier = usage_of(said.get("usage")) or used, tier_of(said)
        elif failure.reached:
            used = self._estimate(0)
            what = "timed out" if isinstance(failure, UpstreamTimeout) else "broke off"
            why = f"{what}, input tokens are estimated"
        free = used == Usage()
        return FailedCall(
            model=self.sent["model"],
            why=why,
            usage=used,
            cost_usd=0.0 if free else cost(used, self.prices(tier)),
        )

    def _estimate(self, output_tokens: int) -> Usage:
        texts = (text_of(message.get("content")) for message in self.sent["messages"])
        return Usage(input_tokens=sum(map(estimated_tokens, texts)), output_tokens=output_tokens)


def after_failures(
    outcome: Outcome, failed: Sequence[FailedCall], model: str, *, last_too: bool
) -> Outcome:
    """The outcome of ``model`` with what all calls used, and why the failed ones did.

    ``last_too``: the last of ``failed`` is what ``outcome`` itself tells of.
    """
    costs = [call.cost_usd for call in failed]
    said = [f"{call.model}: {call.why}" for call in (failed[:-1] if last_too else failed)]
    usage = sum((call.usage for call in failed), Usage())
    if not last_too:
        usage += outcome.usage
        if outcome.status == "ok" or outcome.usage != Usage():
            costs.append(outcome.cost_usd)
    known = [spent for spent in costs if spent is not None]
    return replace(
        outcome,
        usage=usage,
        # Nothing paid for no answer is logged as it is without fallbacks.
        cost_usd=sum(known) or outcome.cost_usd if len(known) == len(costs) else None,
        error="; ".join([*said, *([outcome.error] if outcome.error else [])]),
        calls=len(failed) + (0 if last_too else outcome.calls),
        model=model,
    )


def first_choice(said: Mapping[str, Any]) -> tuple[str, str | None]:
    """The text of a completion's first choice and why it ended; empty where it has none."""
    choices = said.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict):
        return "", None
    message = first.get("message")
    answer = text_of(message.get("content")) if isinstance(message, dict) else ""
    reason = first.get("finish_reason")
    return answer, reason if isinstance(reason, str) else None
