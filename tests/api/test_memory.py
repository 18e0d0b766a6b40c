from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from forethought.api import memory


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_the_collector_rests_from_the_start_until_the_server_is_ready() -> None:
    memory.start()
    assert not gc.isenabled()
    memory.settle()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
