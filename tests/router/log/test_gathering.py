from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

import pytest

from forethought.router.log import gathering
from forethought.router.log.gathering import COMPANY_CALLS, LINGER_S, Call, Gathering


def calls(n: int = 1, *, hurries: bool = True) -> list[Call]:
    return [Call([], hurries=hurries) for _ in range(n)]


def added(gathering: Gathering, some: list[Call]) -> list[Call]:
    assert all(gathering.add(one) for one in some)
    return some


@contextmanager
def taking(gathering: Gathering) -> Iterator[Future[list[Call]]]:
    """The next batch, taken in a thread of its own."""
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(gathering.take)


def transaction(gathering: Gathering) -> list[Call]:
    taken = gathering.take()
    gathering.ended()
    return taken


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Gathering:
    """One that would wait for company longer than the test may take."""
    monkeypatch.setattr(gathering, "COMPANY_S", 1_000.0)
    return Gathering()


def test_a_lone_caller_never_waits_for_company(patient: Gathering) -> None:
    for _ in range(3):
        lone = added(patient, calls())
        assert transaction(patient) == lone


def test_two_at_once_are_waited_for_the_next_time(patient: Gathering) -> None:
    both = added(patient, calls(2))
    assert transaction(patient) == both
    with taking(patient) as batch:
        first = added(patient, calls())
        assert not wait([batch], timeout=0.05).done
        second = added(patient, calls())
        assert batch.result() == [*first, *second]


def test_who_came_during_a_transaction_waits_for_those_it_stored(patient: Gathering) -> None:
    added(patient, calls())
    patient.take()
    meanwhile = added(patient, calls())
    patient.ended()
    with taking(patient) as batch:
        assert not wait([batch], timeout=0.05).done
        back_again = added(patient, calls())
        assert batch.result() == [*meanwhile, *back_again]


def test_no_more_are_waited_for_than_pays(patient: Gathering) -> None:
    added(patient, calls(5 * COMPANY_CALLS))
    transaction(patient)
    some = added(patient, calls(COMPANY_CALLS))
    assert patient.take() == some


def test_company_that_does_not_come_is_not_waited_for_long() -> None:
    gathering = Gathering()
    added(gathering, calls(2))
    transaction(gathering)
    one = added(gathering, calls())
    assert gathering.take() == one


def test_what_does_not_hurry_is_taken_with_what_does(patient: Gathering) -> None:
    slow = added(patient, calls(3, hurries=False))
    with taking(patient) as batch:
        quick = added(patient, calls())
        assert batch.result() == [*slow, *quick]


@pytest.mark.parametrize("idle_s", [0.0, 3 * LINGER_S], ids=["at once", "after a rest"])
def test_what_does_not_hurry_is_taken_all_the_same(idle_s: float) -> None:
    gathering = Gathering()
    with taking(gathering) as batch:
        time.sleep(idle_s)
        slow = added(gathering, calls(2, hurries=False))
        # Both, or one that the rest woke it for.
        assert batch.result(timeout=20)[0] is slow[0]


def test_closed_it_gives_what_waits_and_then_nothing() -> None:
    gathering = Gathering()
    slow = added(gathering, calls(hurries=False))
    gathering.close()
    assert not gathering.add(Call([]))
    assert gathering.take() == slow
    assert gathering.take() == []
