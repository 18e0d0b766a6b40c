"""What a log says about quality beside what people say: signs, and how far each is believed.

Explicit judgements (a client's score, a correction, a grader) always win. Where there is none,
what happened next is weak evidence:

- ``retry``: the same query again on the same context shortly after. The answer was wrong.
- ``rephrase``: a query that says nearly the same (cosine of the embeddings, equal numbers) on the
  same context shortly after. The answer was wrong.
- ``abandon``: the client left while the answer was being streamed. The answer was wrong.
- ``continue``: another query on the same context shortly after. The answer was right: without a
  good sign beside the bad ones, whatever has no judgement would look bad.

A sign with weight w moves a row's label from the mean of all explicit judgements by the share w
towards what it says. The weights are judgement, not measurement; 0 switches a sign off. Signs
teach: no policy is ever judged by them.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from forethought.router.records import LoggedDecision
from forethought.training.errors import TrainingError

SIGN_QUALITY: Final[Mapping[str, float]] = {
    "retry": 0.0,
    "rephrase": 0.0,
    "abandon": 0.0,
    "continue": 1.0,
}
"""The quality that each implicit sign speaks for."""

DEFAULT_WEIGHTS: Final[Mapping[str, float]] = {
    "retry": 0.5,
    "rephrase": 0.3,
    "abandon": 0.2,
    "continue": 0.1,
}
"""Of the implicit signs. A source of explicit judgements that is not named weighs 1."""

WITHIN_S: Final = 300.0
"""So soon the next query on a context has to come to say anything about the answer before."""

SIMILARITY: Final = 0.95
"""Cosine from which a query rephrases the one before, if both have the same numbers.

``python -m bench.signals``: of the pairs of different questions on one context, 0.4% (FairytaleQA),
0.6% (TAT-QA) and 2.0% (GSM8K) pass for rephrasings; of questions in other words, 76% are found.
"""

_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")

Embed = Callable[[Sequence[str]], Any]
"""Texts to unit vectors of shape (n, dim)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What followed a decision: facts, without any weight. Lengths of time in seconds."""

    retried_after_s: float | None = None
    rephrased_after_s: float | None = None
    continued_after_s: float | None = None
    abandoned: bool = False

    def names(self) -> list[str]:
        """The signs that were seen, as ``SIGN_QUALITY`` names them."""
        seen = {
            "retry": self.retried_after_s is not None,
            "rephrase": self.rephrased_after_s is not None,
            "abandon": self.abandoned,
            "continue": self.continued_after_s is not None,
        }
        return [name for name, there in seen.items() if there]


NO_SIGNS: Final = Signs()
Signed = tuple[LoggedDecision, Signs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How far each source of quality is believed, in [0, 1].

    Of several explicit judgements of one answer that of the heaviest source counts, the latest
    of equals; a source with weight 0 is not read.
    """

    by_name: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))

    def of(self, name: str) -> float:
        return self.by_name.get(name, 0.0 if name in SIGN_QUALITY else 1.0)

    @classmethod
    def parse(cls, given: Iterable[str]) -> Weights:
        """The defaults, changed by texts such as ``retry=0.2`` or ``grader=0``.

        Raises:
            TrainingError: A text has another form, or its weight is not in [0, 1].
        """
        found = dict(DEFAULT_WEIGHTS)
        for text in given:
            name, _, value = text.partition("=")
            try:
                weight = float(value)
            except ValueError:
                weight = -1.0
            if not (name and 0 <= weight <= 1):
                raise TrainingError(
                    f"The signal {text!r} cannot be read.",
                    param="signal",
                    remedy="Give a name and a weight from 0 to 1, such as retry=0.2.",
                )
            found[name] = weight
        return cls(by_name=found)


EXPLICIT_ONLY: Final = Weights(by_name={})
"""No implicit sign counts."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a row's quality is and who says so.

    ``weight`` below 1: of an implicit sign, to be drawn towards the mean of the explicit ones.
    """

    quality: float
    source: str
    weight: float = 1.0


def label(logged: LoggedDecision, signs: Signs, weights: Weights) -> Label | None:
    """The label of one decision; None where nothing speaks for or against it."""
    if logged.quality is not None:
        given = [(weights.of(one.source), one) for one in logged.feedback]  # the latest last
        most = max((weight for weight, _ in given), default=weights.of("client"))
        if most > 0:
            said = next((one for weight, one in reversed(given) if weight == most), None)
            if said is None or said is logged.feedback[-1]:
                return Label(logged.quality, "client" if said is None else said.source)
            return Label(said.quality, said.source)
    seen = [(weights.of(name), name) for name in signs.names()]
    weight, name = max(seen, default=(0.0, ""))
    return Label(SIGN_QUALITY[name], name, weight) if weight > 0 else None


def with_signs(
    decisions: Iterable[LoggedDecision],
    *,
    embed: Embed | None,
    within_s: float = WITHIN_S,
    similarity: float = SIMILARITY,
) -> Iterator[Signed]:
    """Each decision with what followed it, in the order given.

    Holds no more than the decisions of ``within_s`` in memory.

    Args:
        decisions: In time order. Those without a context, or whose text was not logged, have
            only the sign ``abandon``.
        embed: Makes unit vectors of queries; None: rephrasings are not looked for.
        within_s: How soon the next query has to come.
        similarity: Cosine from which it is a rephrasing.
    """
    waiting: deque[list[Any]] = deque()
    last: dict[tuple[str, str], list[Any]] = {}
    for logged in decisions:
        now = logged.decision.created_at
        while waiting and waiting[0][0].decision.created_at < now - within_s:
            yield _released(waiting, last)
        entry = [logged, _own_signs(logged)]
        key = _key(logged)
        if key is not None:
            before = last.get(key)
            if before is not None:
                before[1] = _followed(before[0], before[1], logged, embed, similarity)
            last[key] = entry
        waiting.append(entry)
    while waiting:
        yield _released(waiting, last)


def _released(waiting: deque[list[Any]], last: dict[tuple[str, str], list[Any]]) -> Signed:
    entry = waiting.popleft()
    key = _key(entry[0])
    if key is not None and last.get(key) is entry:
        del last[key]
    return entry[0], entry[1]


def _key(logged: LoggedDecision) -> tuple[str, str] | None:
    decision = logged.decision
    return None if decision.context_id is None else (decision.tenant, decision.context_id)


def _own_signs(logged: LoggedDecision) -> Signs:
    outcome = logged.outcome
    left = outcome is not None and outcome.status == "cancelled" and outcome.ttft_ms is not None
    return Signs(abandoned=True) if left else NO_SIGNS


def _followed(
    before: LoggedDecision,
    signs: Signs,
    after: LoggedDecision,
    embed: Embed | None,
    similarity: float,
) -> Signs:
    # A call that failed is asked again for that reason, and says nothing about an answer.
    if before.outcome is None or before.outcome.status not in {"ok", "cancelled"}:
        return signs
    seconds = after.decision.created_at - before.decision.created_at
    found = sign_between(before.decision.query, after.decision.query, embed, similarity)
    if found == "retry":
        return replace(signs, retried_after_s=seconds)
    if found == "rephrase":
        return replace(signs, rephrased_after_s=seconds)
    return replace(signs, continued_after_s=seconds) if found == "continue" else signs


def sign_between(
    before: str, after: str, embed: Embed | None, similarity: float = SIMILARITY
) -> str | None:
    """What a query says of the answer to the one before; None where a text is missing."""
    first, second = _normal(before), _normal(after)
    if not first or not second:
        return None
    if first == second:
        return "retry"
    if embed is not None and _numbers(first) == _numbers(second):
        one, other = embed([before, after])
        if float(one @ other) >= similarity:
            return "rephrase"
    return "continue"


def _normal(query: str) -> str:
    return " ".join(query.casefold().split())


def _numbers(query: str) -> list[str]:
    return sorted(_NUMBER.findall(query))
