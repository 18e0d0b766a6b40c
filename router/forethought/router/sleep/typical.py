"""What sleep typically writes and consumes, by the road it takes on a text and by its level.

Before sleep nobody knows what will be learned: until then these medians stand for it. They are of
bench/recorded without the test split: 81 contexts with programs, 58 with questions, 28 with
tables; Qwen2.5-Coder-1.5B. ``quality_gain`` is the mean difference in quality of ``learned:low`` to
the same queries' at k3r1, on 235 and 231 queries; its standard error is 0.03 and 0.02.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from forethought.router.records import SleepLevel, Usage
from forethought.router.sleep import tables
from forethought.router.sleep.writer import is_quantitative

Road = Literal["quantities", "questions", "tables"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Typical:
    """The learned context to expect, as features see it, and its quality against k3r1's."""

    notes: float
    confidence: float
    verified: float
    tokens: float
    similarity_max: float
    similarity_top3: float
    quality_gain: float = 0.0

    def features(self) -> dict[str, float]:
        return {
            "art_notes": self.notes,
            "art_questions": self.notes,
            "art_confidence": self.confidence,
            "art_verified": self.verified,
            "art_tokens": self.tokens,
            "art_similarity_max": self.similarity_max,
            "art_similarity_top3": self.similarity_top3,
        }


MEASURED: Final[Mapping[tuple[Road, str], Typical]] = {
    ("quantities", "k1r1"): Typical(
        notes=4, confidence=1.0, verified=1.0, tokens=140, similarity_max=0.78,
        similarity_top3=0.66, quality_gain=-0.047,
    ),
    ("quantities", "k3r1"): Typical(
        notes=10, confidence=0.67, verified=1.0, tokens=293, similarity_max=0.81,
        similarity_top3=0.75,
    ),
    ("quantities", "k3r2"): Typical(
        notes=12, confidence=0.67, verified=1.0, tokens=347, similarity_max=0.83,
        similarity_top3=0.76, quality_gain=-0.009,
    ),
    ("quantities", "k10r1"): Typical(
        notes=29, confidence=0.56, verified=0.94, tokens=588, similarity_max=0.88,
        similarity_top3=0.83, quality_gain=0.030,
    ),
    ("questions", "k1r1"): Typical(
        notes=5, confidence=1.0, verified=1.0, tokens=95, similarity_max=0.54,
        similarity_top3=0.40, quality_gain=-0.021,
    ),
    ("questions", "k3r1"): Typical(
        notes=2, confidence=1.0, verified=0.50, tokens=58, similarity_max=0.44,
        similarity_top3=0.35,
    ),
    ("questions", "k10r1"): Typical(
        notes=3, confidence=0.58, verified=0.75, tokens=73, similarity_max=0.48,
        similarity_top3=0.37, quality_gain=-0.006,
    ),
    ("tables", "k3r1"): Typical(
        notes=5, confidence=0.91, verified=1.0, tokens=232, similarity_max=0.68,
        similarity_top3=0.40,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _CallUsage:
    """Tokens of one model call: ``input`` and ``per_context_token`` times those of the context.

    ``shared`` input tokens are the prompt's beginning, the same for every context: cached.
    """

    input: float
    per_context_token: float
    shared: float
    output: float


_DRAFT: Final = _CallUsage(input=964, per_context_token=0.90, shared=896, output=158)
_RETHINK: Final = _CallUsage(input=1145, per_context_token=0.90, shared=896, output=125)
_QUESTIONS: Final = _CallUsage(input=249, per_context_token=0.89, shared=128, output=114)
_CHECK: Final = _CallUsage(input=100, per_context_token=0.91, shared=0, output=43)


def road_of(text: str) -> Road:
    """The road that the sleep writer takes on ``text``."""
    if tables.derive(text):
        return "tables"
    return "quantities" if is_quantitative(text) else "questions"


def typical_of(road: Road, level: SleepLevel) -> Typical:
    """What is typical of a level; of the nearest one below, where it was not measured."""
    measured = {name: t for (of, name), t in MEASURED.items() if of == road}
    if level.name in measured:
        return measured[level.name]
    smaller = [n for n in measured if int(n[1 : n.index("r")]) <= level.drafts]
    return measured[smaller[-1]] if smaller else next(iter(measured.values()))


def usage_of(road: Road, level: SleepLevel, context_tokens: int) -> Usage:
    """What a sleep consumes, forecast. Calls of one kind share all but the prompt's beginning."""
    if road == "tables":
        return Usage()
    if road == "quantities":
        return _calls(_DRAFT, level.drafts, context_tokens) + _calls(
            _RETHINK, level.drafts * (level.rounds - 1), context_tokens
        )
    return _calls(_QUESTIONS, level.rounds, context_tokens) + _calls(
        _CHECK, level.drafts // 2, context_tokens
    )


def _calls(kind: _CallUsage, n: int, context_tokens: int) -> Usage:
    if n == 0:
        return Usage()
    of_context = kind.per_context_token * context_tokens
    return Usage(
        input_tokens=round(n * (kind.input + of_context)),
        cached_tokens=round(n * kind.shared + (n - 1) * of_context),
        output_tokens=round(n * kind.output),
    )
