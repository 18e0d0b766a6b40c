"""A budget per period: what was spent, what requests under way may still cost, who is refused.

With a hard cap a request is let through only if the dearest it can cost still fits beside what was
spent and what all others under way can cost; so the spending never exceeds the budget unless an
answer costs more than was held back for it (``ceiling_usd`` says when that can be). Without one
nothing is refused, and the multiplier alone keeps the spending near the budget.

What was spent is what the log says: ``resume`` plays back its past on starting. For one event
loop, and one process: another one's spending is seen only on starting.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from forethought.router.dialects.claude import thinks_by_default
from forethought.router.dialects.thinking import BUDGETS
from forethought.router.errors import BudgetSpent
from forethought.router.pacing import DAY_S, Pacer
from forethought.router.pricing import MILLION, Prices
from forethought.router.records import Outcome

RESERVE_TOKENS: Final = 8192
"""Taken to be the longest answer of a request that sets no limit: no chat model's usual one is."""

LEASE_S: Final = 3600.0
"""After this, what was held back for a request that never ended is free again."""

_TEMPLATE_TOKENS: Final = 16
"""What a chat template adds to a message at most: Qwen's and Llama's take 4 to 6."""

_ROUNDING: Final = 1e-9
"""Of the budget: sums of doubles are not exact, and the cap is."""

_CASCADE_CALLS: Final = 4


class Event(NamedTuple):
    """One line of the past: a query came, was answered, or a sleep was paid."""

    at: float
    kind: Literal["asked", "answered", "slept"]
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStatus:
    """How a period stands. ``starts_at``, ``ends_at``: Unix seconds. ``spent_usd`` includes
    ``sleep_usd``; ``reserved_usd`` is held back for requests under way. ``multiplier``: how many
    dollars of worth a dollar spent has to bring now. ``refused``: requests since the start of the
    process.
    """

    budget_usd: float
    period_s: float
    hard: bool
    starts_at: float
    ends_at: float
    spent_usd: float
    sleep_usd: float
    reserved_usd: float
    multiplier: float
    expected_queries: float
    refused: int


class Budget:
    """The budget of a server.

    Args:
        budget_usd: Of a period.
        period_s: Its length; periods follow each other from Unix time 0.
        hard: Refuse what could exceed the budget.
        reserve_tokens: The longest answer of a request that sets no limit.
        on_multiplier: Is told of each new multiplier.
        clock: Unix seconds.
    """

    def __init__(
        self,
        *,
        budget_usd: float,
        period_s: float = DAY_S,
        hard: bool = True,
        reserve_tokens: int = RESERVE_TOKENS,
        on_multiplier: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.hard = hard
        self.reserve_tokens = reserve_tokens
        self.refused = 0
        self._pacer = Pacer(budget_usd=budget_usd, period_s=period_s)
        self._reserved: dict[str, tuple[float, float]] = {}
        self._on_multiplier = on_multiplier
        self._clock = clock

    @property
    def status(self) -> BudgetStatus:
        now = self._clock()
        pacer, at = self._pacer, self._pacer.advance(now)
        start = pacer.period_start(now)
        return BudgetStatus(
            budget_usd=pacer.budget_usd,
            period_s=pacer.period_s,
            hard=self.hard,
            starts_at=start,
            ends_at=start + pacer.period_s,
            spent_usd=pacer.spent_usd,
            sleep_usd=pacer.sleep_usd,
            reserved_usd=self._held(now),
            multiplier=pacer.multiplier,
            expected_queries=pacer.forecast.remaining(at),
            refused=self.refused,
        )

    @property
    def history_since(self) -> float:
        """From when on the past is worth playing back: the period before this one."""
        return self._pacer.period_start(self._clock()) - self._pacer.period_s

    def resume(self, past: Iterable[Event]) -> None:
        """Play back what happened since ``history_since``, in any order."""
        for event in sorted(past):
            if event.kind == "asked":
                self._pacer.arrived(event.at)
            elif event.kind == "answered":
                self._pacer.spent(event.at, event.cost_usd)
            else:
                self._pacer.slept(event.at, event.cost_usd)
        self._pacer.advance(self._clock())
        self._tell()

    def is_spent(self) -> bool:
        """Whether a hard cap is reached."""
        self._pacer.advance(self._clock())
        return self.hard and self._pacer.spent_usd >= self._limit_usd

    def check(self) -> None:
        """Raise BudgetSpent where a hard cap is reached."""
        if self.is_spent():
            raise self._refusal("is spent")

    def arrived(self) -> None:
        """Count a query; one that is refused too, or the forecast would learn that none come."""
        self._pacer.arrived(self._clock())

    def reserve(self, key: str, usd: float | None) -> None:
        """Hold back what a request can cost; ``settle`` or ``release`` end that.

        Raises:
            BudgetSpent: It does not fit under the hard cap, or (None) its price is unknown.
        """
        if not self.hard:
            return
        if usd is None:
            raise self._refusal(
                "cannot be kept: no price of this model is known", "Give one in 'prices'."
            )
        now = self._clock()
        self._pacer.advance(now)
        if self._pacer.spent_usd + self._held(now) + usd > self._limit_usd:
            raise self._refusal(f"does not pay for a request that can cost {usd:.6f} USD")
        self._reserved[key] = (usd, now + LEASE_S)

    def release(self, key: str) -> None:
        """What was held back is free again."""
        self._reserved.pop(key, None)

    def settle(self, outcome: Outcome) -> None:
        """A request ended: count what it cost. Without a known cost it is free, as in the log."""
        self.release(outcome.decision_id)
        if outcome.cost_usd is not None:
            self._pacer.spent(outcome.finished_at, outcome.cost_usd)
            self._tell()

    def settle_sleep(self, key: str, cost_usd: float) -> None:
        """A call of sleep ended."""
        self.release(key)
        self._pacer.slept(self._clock(), cost_usd)

    @property
    def _limit_usd(self) -> float:
        return self._pacer.budget_usd * (1.0 - _ROUNDING)

    def _held(self, now: float) -> float:
        for key, (_, until) in list(self._reserved.items()):
            if until > now:
                break  # in the order in which they were held back, and so run out
            del self._reserved[key]
        return sum(usd for usd, _ in self._reserved.values())

    def _refusal(self, why: str, remedy: str | None = None) -> BudgetSpent:
        self.refused += 1
        pacer = self._pacer
        end = pacer.period_start(self._clock()) + pacer.period_s
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(end))
        return BudgetSpent(
            f"The budget of {pacer.budget_usd:g} USD a period {why}.",
            param="budget_usd",
            remedy=remedy or f"The next period begins at {when}.",
        )

    def _tell(self) -> None:
        if self._on_multiplier is not None:
            self._on_multiplier(self._pacer.multiplier)


def ceiling_usd(
    body: Mapping[str, Any], prices: Prices | None, *, reserve_tokens: int, calls: int = 1
) -> float | None:
    """The dearest that a chat completion can cost; None where its price is unknown.

    No token is shorter than a byte, so the body's bytes bound the input (that of an image given by
    its address they do not). The output is bounded by the request's own limit; one without a limit
    is taken to stop at ``reserve_tokens``, and to think beside it as much as its effort lets it.
    """
    return dearest_usd([(body, prices)], reserve_tokens=reserve_tokens, calls=calls)


def dearest_usd(
    asked: Sequence[tuple[Mapping[str, Any], Prices | None]],
    *,
    reserve_tokens: int,
    calls: int = 1,
) -> float | None:
    """The dearest that asking models in turn can cost; None where a price is unknown.

    Each is asked by its body, at its prices, where those before it failed. One that fails can have
    read the input, one that answers ends it.
    """
    in_vain = most = 0.0
    for body, prices in asked:
        if prices is None:
            return None
        read, written = _parts_usd(body, prices, reserve_tokens)
        most = max(most, in_vain + read + written)
        in_vain += read
    return calls * most


def _parts_usd(body: Mapping[str, Any], prices: Prices, reserve_tokens: int) -> tuple[float, float]:
    """The dearest that a chat completion's input and its output can cost."""
    choices = body.get("n")
    output = _longest_answer(body, reserve_tokens) * (
        choices if isinstance(choices, int) and choices > 1 else 1
    )
    messages = body.get("messages") or ()
    sent = len(json.dumps(body, ensure_ascii=False).encode(errors="replace"))
    given = sent + _TEMPLATE_TOKENS * (len(messages) + 1)
    everywhere = (prices, *(longer for _, longer in prices.longer))
    dearest_in = max(
        max(p.input, p.cache_write or 0.0, p.cache_write_1h or 0.0) for p in everywhere
    )
    dearest_out = max(p.output for p in everywhere)
    return given * dearest_in / MILLION, output * dearest_out / MILLION


def _longest_answer(body: Mapping[str, Any], reserve_tokens: int) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        limit = body.get(name)
        if isinstance(limit, int) and limit > 0:  # llama.cpp takes -1 for no limit
            return limit
    thinking = body.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    if isinstance(budget, int):
        return reserve_tokens + max(0, budget)
    effort = body.get("reasoning_effort")
    if effort is None and thinks_by_default(str(body.get("model"))):
        effort = "high"
    return reserve_tokens + BUDGETS.get(str(effort), 0)


def most_calls(strategy: str) -> int:
    """How many upstream calls a strategy makes at most, with the gateway's own fall-back."""
    if strategy == "recall":
        return 0
    if strategy == "cascade":
        return _CASCADE_CALLS
    votes = re.fullmatch(r"vote:(\d+)", strategy)
    return 1 if votes is None else int(votes[1]) + 2
