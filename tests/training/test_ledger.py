from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.router.errors import ConfigError
from forethought.training.ledger import Ledger, Test, level_of


def _ask(ledger: Ledger, candidate: str, *, data: str = "d", scope: str = "log") -> Test:
    test = ledger.ask(
        scope=scope, candidate=candidate, champion="direct", data=data, alpha=0.05, now=1.0
    )
    ledger.record(test)
    return test


@given(st.integers(1, 2000), st.floats(1e-6, 0.5))
def test_all_tests_together_spend_no_more_than_alpha(tests: int, alpha: float) -> None:
    spent = sum(level_of(number, alpha) for number in range(1, tests + 1))
    assert spent < alpha
    assert spent == pytest.approx(alpha * (1 - 1 / (tests + 1)))


def test_each_new_question_may_spend_less(tmp_path: Path) -> None:
    path = tmp_path / "policies" / "gate.json"
    levels = [_ask(Ledger(path), name).level for name in ("a", "b", "c")]
    assert levels == pytest.approx([0.025, 0.05 / 6, 0.05 / 12])
    assert [test.candidate for test in Ledger(path).tests()] == ["a", "b", "c"]


def test_more_data_is_a_new_question_and_the_same_is_not(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "gate.json")
    assert [_ask(ledger, "a").number for _ in range(3)] == [1, 1, 1]
    assert _ask(ledger, "a", data="more").number == 2
    assert len(ledger.tests()) == 2


def test_a_question_that_was_not_answered_spends_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "gate.json")
    asked = [
        ledger.ask(scope="log", candidate=name, champion="x", data="d", alpha=0.1, now=1.0)
        for name in ("a", "b")
    ]
    assert [test.number for test in asked] == [1, 1]
    assert ledger.tests() == []


def test_a_promotion_starts_anew(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "gate.json")
    assert _ask(ledger, "a").number == 1
    assert _ask(ledger, "b").number == 2
    assert _ask(ledger, "c", scope="log since 5").number == 1
    assert _ask(ledger, "d").number == 3


@pytest.mark.parametrize("text", ["{", '{"tests": [{"number": 0}]}', '{"looks": []}'])
def test_a_damaged_ledger_is_not_forgotten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gate.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="does not say which candidates") as raised:
        _ask(Ledger(path), "a")
    assert "forgets how much of the error is spent" in str(raised.value)
    assert path.read_text() == text
