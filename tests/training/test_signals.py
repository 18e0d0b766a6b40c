from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from forethought.models.embedding import WordLlamaEmbedder
from forethought.router.records import Feedback, LoggedDecision
from forethought.training.dataset import from_signed
from forethought.training.errors import TrainingError
from forethought.training.signals import NO_SIGNS, Signs, Weights, label, with_signs
from tests.training.synthetic import judged, make_logged

EMBED = WordLlamaEmbedder().load().embed


def _asked(*queries: str, gap_s: float = 10.0, **changes: Any) -> list[LoggedDecision]:
    return [
        make_logged(n, query=query, created_at=1000.0 + gap_s * n, **changes)
        for n, query in enumerate(queries)
    ]


def _signs(log: Sequence[LoggedDecision]) -> list[list[str]]:
    return [signs.names() for _, signs in with_signs(log, embed=EMBED)]


def _with_status(one: LoggedDecision, status: str, ttft_ms: float | None) -> LoggedDecision:
    assert one.outcome is not None
    changed = replace(one.outcome, status=status, ttft_ms=ttft_ms)  # type: ignore[arg-type]
    return replace(one, outcome=changed)


@pytest.mark.parametrize(
    ("second", "sign"),
    [
        pytest.param("How many  apples does ANN have?", "retry", id="the same"),
        pytest.param("How many apples does Ann have, please?", "rephrase", id="other words"),
        pytest.param("Where does Ben live?", "continue", id="something else"),
        pytest.param("How many apples does Ann have in 1999?", "continue", id="another number"),
    ],
)
def test_the_next_query_on_the_context_tells_of_the_answer_before(second: str, sign: str) -> None:
    assert _signs(_asked("How many apples does Ann have?", second)) == [[sign], []]


def test_a_query_long_after_or_on_another_context_or_without_text_tells_nothing() -> None:
    assert _signs(_asked("a", "a", gap_s=301)) == [[], []]
    one, other = _asked("a", "a")
    elsewhere = replace(other, decision=replace(other.decision, context_id="ctx_9"))
    assert _signs([one, elsewhere]) == [[], []]
    assert _signs(_asked("", "")) == [[], []]
    assert _signs(_asked("a", "a", context_id=None)) == [[], []]


def test_a_failed_call_that_is_asked_again_was_no_wrong_answer() -> None:
    first, second = _asked("a", "a")
    assert _signs([_with_status(first, "timeout", None), second]) == [[], []]


def test_a_stream_that_the_client_left_was_abandoned() -> None:
    (one,) = _asked("a")
    assert _signs([_with_status(one, "cancelled", 20.0)]) == [["abandon"]]
    assert _signs([_with_status(one, "cancelled", None)]) == [[]]


def test_decisions_keep_their_order_and_are_all_there() -> None:
    log = [make_logged(n, context_id=f"c{n % 7}", created_at=100.0 * n) for n in range(50)]
    assert [one for one, _ in with_signs(log, embed=None)] == log


def test_what_people_say_always_wins_over_signs() -> None:
    one = judged(make_logged(0), 1.0)
    said = label(one, Signs(retried_after_s=1.0), Weights.parse(["retry=1"]))
    assert said is not None
    assert (said.quality, said.source, said.weight) == (1.0, "client", 1.0)


def test_the_heaviest_source_counts_and_the_latest_of_equals() -> None:
    one = judged(make_logged(0), 1.0)
    later = Feedback(id="f", decision_id=one.decision.id, created_at=9e9, quality=0, source="bot")
    both = replace(one, quality=0.0, feedback=(*one.feedback, later))
    latest = label(both, NO_SIGNS, Weights())
    heaviest = label(both, NO_SIGNS, Weights.parse(["bot=0.5"]))
    assert latest is not None
    assert heaviest is not None
    assert (latest.quality, latest.source) == (0.0, "bot")
    assert (heaviest.quality, heaviest.source) == (1.0, "client")
    assert label(both, NO_SIGNS, Weights.parse(["bot=0", "client=0"])) is None


def test_a_sign_moves_the_label_from_the_mean_by_its_weight_and_judges_nothing() -> None:
    log = [judged(make_logged(n, context_id=f"c{n}"), float(n % 4 == 0)) for n in range(40)]
    retried = make_logged(99, context_id="c99")
    pairs = [*((one, NO_SIGNS) for one in log), (retried, Signs(retried_after_s=1.0))]
    found = from_signed(pairs, source="log", weights=Weights.parse(["retry=0.4"]))
    base = float(np.nanmean(found.quality[:-1][~found.held_out[:-1]]))
    assert found.quality[-1] == pytest.approx(0.6 * base)
    assert found.judged_by[-1] == "retry"
    assert np.isnan(found.explicit.quality[-1])
    assert not np.isnan(found.explicit.quality[:-1]).any()
    switched_off = from_signed(pairs, source="log", weights=Weights.parse(["retry=0"]))
    assert np.isnan(switched_off.quality[-1])


def test_an_abandoned_answer_tells_of_quality_alone() -> None:
    log = _asked("a", "b")
    left = _with_status(log[1], "cancelled", 20.0)
    found = from_signed(with_signs([log[0], left], embed=None), source="log", weights=Weights())
    assert found.judged_by == ["continue", "abandon"]
    assert found.quality[1] == pytest.approx(0.8 * 0.5)
    assert np.isnan(found.output_tokens[1])
    assert np.isnan(found.latency_ms[1])
    assert np.isnan(found.cost_usd[1])


@pytest.mark.parametrize("text", ["retry", "retry=2", "retry=x", "=1", "retry=-1", "retry=nan"])
def test_a_weight_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(TrainingError, match="cannot be read"):
        Weights.parse([text])
