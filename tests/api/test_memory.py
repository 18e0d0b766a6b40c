from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from forethought.api import memory


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()
    gc.enable()


def test_the_collector_rests_from_the_start_until_the_server_is_ready() -> None:
    memory.start()
    assert not gc.isenabled()
    memory.settle()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_the_collector_does_not_look_while_few_requests_are_under_way() -> None:
    memory.settle()
    assert gc.get_threshold()[0] == memory.YOUNG_OBJECTS


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_a_process_that_did_more_than_start_is_tidied_first() -> None:
    gc.collect()
    gone = weakref.ref(Cycle())
    memory.settle()
    assert gone() is None
