from __future__ import annotations

import multiprocessing
import time
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


def test_a_test_that_another_has_spent_meanwhile_cannot_be_recorded(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "gate.json")
    mine, theirs = (
        ledger.ask(scope="log", candidate=name, champion="x", data="d", alpha=0.1, now=1.0)
        for name in ("a", "b")
    )
    ledger.record(theirs)
    with pytest.raises(ConfigError, match="spent already"):
        ledger.record(mine)


def _ask_slowly(path: Path, name: str, times: int) -> None:
    ledger = Ledger(path)
    for number in range(times):
        with ledger.turn():
            test = ledger.ask(
                scope="log", candidate=f"{name}{number}", champion="x", data="d", alpha=0.1, now=1.0
            )
            time.sleep(0.005)  # as an evaluation would take: without a lock the other one asks now
            ledger.record(test)


def test_two_processes_never_spend_the_same_error(tmp_path: Path) -> None:
    path, start = tmp_path / "policies" / "gate.json", multiprocessing.get_context("spawn")
    asking = [start.Process(target=_ask_slowly, args=(path, name, 15)) for name in ("a", "b")]
    for process in asking:
        process.start()
    for process in asking:
        process.join(timeout=60)
    assert [process.exitcode for process in asking] == [0, 0]
    tests = Ledger(path).tests()
    assert [test.number for test in tests] == list(range(1, 31))
    assert sum(test.level for test in tests) < 0.1
    assert len({test.candidate for test in tests}) == 30
