"""What it would take for a policy to choose another strategy.

One number is changed at a time: what was predicted of the other strategy (its quality, cost or
latency), or what the operator prefers (the worth of a right answer, the price of waiting, the
quality bound). As a function of any one of them the choice is constant but for a few points:
where the other strategy's utility meets a rival's, and where a quality meets the bound. So the
nearest value that flips the choice lies at such a point, seen from what the number was; each is
tried on the rule itself (``allocation.preferred``), rounded away from what it was, and
only what flips the choice is named.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Final, Literal, get_args

from forethought.router.allocation import Preferences, preferred, utility
from forethought.router.records import Candidate
from forethought.router.wording import number

Lever = Literal[
    "quality",
    "cost_usd",
    "latency_ms",
    "value_usd",
    "latency_usd_per_s",
    "quality_margin",
    "quality_floor",
    "cost_multiplier",
]
_LEVERS: Final[tuple[Lever, ...]] = get_args(Lever)
_PREFERRED: Final = frozenset(field.name for field in fields(Preferences))
_PREDICTED: Final = frozenset({"quality", "cost_usd", "latency_ms"})
_SHARES: Final = frozenset({"quality", "quality_margin", "quality_floor"})
"""In [0, 1]; the others only must not be negative."""

_PLACES: Final = (3, 4, 6, 9)
"""Decimal places of a share that are tried in turn: 0.001 is a tenth of a point."""

_STEP: Final = 1e-7
"""Just beyond a point, relative to it."""

_LEAST: Final = 1e-3
"""Or to this, where it is at zero."""

_SMALLEST: Final = -4
"""The digit that counts as leading in zero: a change from zero is said as 0.000001, not less."""

_DIGITS: Final = (2, 3, 4, 6, 9)
"""Significant digits of the other levers, likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """``strategy`` would be the policy's choice if ``lever`` were ``becomes`` instead of ``was``.

    ``quality``, ``cost_usd`` and ``latency_ms`` are those predicted of ``strategy``; the other
    levers are preferences. ``words`` says the same as the end of a sentence with "if".
    """

    strategy: str
    lever: Lever
    was: float
    becomes: float
    words: str


def considered(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """The candidates that the policy weighed: admissible, predicted, and its own to choose."""
    return tuple(c for c in candidates if c.excluded is None and c.utility is not None)


def policys_choice(candidates: Sequence[Candidate], preferences: Preferences) -> str:
    """What the policy chooses of ``candidates`` where it does not explore.

    Raises:
        ValueError: There is nothing to choose from.
    """
    return preferred(candidates, preferences)


def weighed(candidates: Iterable[Candidate], preferences: Preferences) -> tuple[Candidate, ...]:
    """``candidates`` with the utilities that their predictions have under ``preferences``."""
    return tuple(
        replace(
            c,
            utility=utility(
                c.quality or 0.0,
                cost_usd=c.cost_usd,
                latency_ms=c.latency_ms or 0.0,
                preferences=preferences,
            ),
        )
        for c in candidates
    )


def changes_for(
    strategy: str, candidates: Sequence[Candidate], preferences: Preferences
) -> tuple[Change, ...]:
    """The smallest change of each single number that makes ``strategy`` the choice.

    Args:
        strategy: One of ``candidates``. If it is the choice already, nothing has to change.
        candidates: What the policy weighed (``considered``).
        preferences: Those that it weighed them by.
    """
    if policys_choice(weighed(candidates, preferences), preferences) == strategy:
        return ()
    found = []
    for lever in _LEVERS:
        if lever not in _PREDICTED | _PREFERRED:
            continue
        was = _value(lever, strategy, candidates, preferences)
        if was is None or (lever == "cost_multiplier" and was == 1.0):
            continue  # no cost is known, or no budget is set
        becomes = _nearest(lever, was, strategy, candidates, preferences)
        if becomes is not None:
            found.append(
                Change(
                    strategy=strategy,
                    lever=lever,
                    was=was,
                    becomes=becomes,
                    words=_words(lever, was, becomes),
                )
            )
    return tuple(found)


def changed(
    candidates: Sequence[Candidate],
    preferences: Preferences,
    *,
    strategy: str,
    lever: Lever,
    becomes: float,
) -> tuple[tuple[Candidate, ...], Preferences]:
    """``candidates`` and ``preferences`` as they are once ``lever`` is ``becomes``."""
    if lever in _PREFERRED:
        preference: dict[str, Any] = {lever: becomes}
        preferences = replace(preferences, **preference)
        return weighed(candidates, preferences), preferences
    moved = tuple(_moved(c, lever, becomes) if c.strategy == strategy else c for c in candidates)
    return weighed(moved, preferences), preferences


def _moved(candidate: Candidate, lever: Lever, becomes: float) -> Candidate:
    if lever == "cost_usd":
        return replace(candidate, cost_usd=becomes)
    if lever == "latency_ms":
        return replace(candidate, latency_ms=becomes)
    by = becomes - (candidate.quality or 0.0)  # the interval moves with its middle
    low, high = (
        None if end is None else min(1.0, max(0.0, end + by))
        for end in (candidate.quality_low, candidate.quality_high)
    )
    return replace(candidate, quality=becomes, quality_low=low, quality_high=high)


def _value(
    lever: Lever, strategy: str, candidates: Sequence[Candidate], preferences: Preferences
) -> float | None:
    holder: object = preferences
    if lever in _PREDICTED:
        holder = next(c for c in candidates if c.strategy == strategy)
    found: float | None = getattr(holder, lever)
    return found


def _nearest(
    lever: Lever,
    was: float,
    strategy: str,
    candidates: Sequence[Candidate],
    preferences: Preferences,
) -> float | None:
    top = 1.0 if lever in _SHARES else math.inf

    def chosen_at(value: float) -> bool:
        try:
            moved, preferred = changed(
                candidates, preferences, strategy=strategy, lever=lever, becomes=value
            )
            return policys_choice(moved, preferred) == strategy
        except (ValueError, OverflowError):
            return False

    ends = [0.0, top] if lever in _SHARES else [0.0]
    points = [
        point
        for point in (
            *_crossings(lever, was, strategy, candidates, preferences),
            *_bounds(lever, strategy, candidates, preferences),
            *(end for end in ends if end != was),
        )
        if math.isfinite(point) and 0.0 <= point <= top
    ]
    for point in sorted(set(points), key=lambda p: abs(p - was)):
        for up in (True, False) if point == was else (point > was,):
            step = _STEP * max(abs(point), abs(was), _LEAST)
            beyond = min(top, max(0.0, point + (step if up else -step)))
            if not chosen_at(beyond):
                continue
            for value in (*_rounded(point, lever, up=up), beyond):
                if lever == "cost_multiplier" and not value:
                    continue
                if 0.0 <= value <= top and chosen_at(value):
                    return value
    return None


def _crossings(
    lever: Lever,
    was: float,
    strategy: str,
    candidates: Sequence[Candidate],
    preferences: Preferences,
) -> list[float]:
    """Where the strategy's utility meets each rival's: a utility is linear in every lever."""

    def lead(value: float) -> dict[str, float]:
        moved, _ = changed(candidates, preferences, strategy=strategy, lever=lever, becomes=value)
        own = next(c.utility or 0.0 for c in moved if c.strategy == strategy)
        return {c.strategy: own - (c.utility or 0.0) for c in moved if c.strategy != strategy}

    here, further = lead(was), lead(was + 1.0)
    return [
        was - behind / (further[rival] - behind)
        for rival, behind in here.items()
        if further[rival] != behind
    ]


def _bounds(
    lever: Lever, strategy: str, candidates: Sequence[Candidate], preferences: Preferences
) -> list[float]:
    """Where a quality meets the quality bound, or another quality where none holds it."""
    qualities = {c.strategy: c.quality or 0.0 for c in candidates}
    direct = qualities.get("direct")
    margin, floor = preferences.quality_margin, preferences.quality_floor
    if lever == "quality_floor":
        return [*qualities.values()]
    if lever == "quality_margin":
        return [] if direct is None else [direct - q for q in qualities.values()]
    if lever != "quality":
        return []
    points = [floor, *qualities.values()]
    if strategy == "direct":
        points += [q + margin for q in qualities.values()]
    elif direct is not None:
        points.append(direct - margin)
    return points


def _rounded(point: float, lever: Lever, *, up: bool) -> Iterable[float]:
    """``point`` rounded up or down, coarsely first."""
    exact, rounding = Decimal(repr(point)), ROUND_CEILING if up else ROUND_FLOOR
    if lever in _SHARES:
        exponents = [-places for places in _PLACES]
    else:
        leading = exact.adjusted() if exact else _SMALLEST
        exponents = [leading - digits + 1 for digits in _DIGITS]
    for exponent in exponents:
        unit = Decimal(1).scaleb(exponent)
        rounded = exact.quantize(unit, rounding=rounding)
        yield float(rounded)
        if exponent != exponents[0]:  # at the point itself the two may be level
            yield float(rounded + unit if up else rounded - unit)


def _words(lever: Lever, was: float, becomes: float) -> str:
    more = becomes > was
    if lever == "quality":
        by = f"{abs(becomes - was) * 100:.2g} points {'higher' if more else 'lower'}"
        return f"its predicted accuracy were {by} ({_percent(becomes)} instead of {was:.1%})"
    if lever == "cost_usd":
        return f"it cost {number(becomes)} USD instead of {number(float(f'{was:.3g}'))} USD"
    if lever == "latency_ms":
        return f"it took {number(becomes / 1000)} s instead of {was / 1000:.2f} s"
    if lever == "value_usd":
        return f"a right answer were worth {number(becomes)} USD instead of {number(was)} USD"
    if lever == "latency_usd_per_s":
        return f"a second's wait cost {number(becomes)} USD instead of {number(was)} USD"
    if lever == "quality_margin":
        points = f"{number(becomes * 100)} points instead of {number(was * 100)}"
        return f"the quality margin were {points}"
    if lever == "cost_multiplier":
        return f"a dollar spent had to bring {number(becomes)} USD instead of {number(was)} USD"
    return f"the quality floor were {_percent(becomes)} instead of {_percent(was)}"


def _percent(share: float) -> str:
    return f"{number(share * 100)}%"
