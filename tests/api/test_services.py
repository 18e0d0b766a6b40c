"""What a server opens is closed in an order that leaves nothing behind."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy.pool import QueuePool

from forethought.api.metrics import Metrics
from forethought.api.services import opened
from forethought.api.settings_sources import load_settings
from forethought.router.log.store import Store
from tests.fake_upstream import FakeUpstreamServer


async def test_the_store_is_closed_when_nobody_reads_it_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    close = Store.close

    def counting(store: Store) -> None:
        assert isinstance(store.engine.pool, QueuePool)
        left.append(store.engine.pool.checkedout())
        close(store)

    monkeypatch.setattr(Store, "close", counting)
    reading = threading.Event()

    def read(store: Store) -> None:
        with store.reading():
            reading.set()
            time.sleep(1)

    with FakeUpstreamServer() as upstream:
        settings = load_settings(
            data_dir=tmp_path, upstream_base_url=upstream.base_url, sleep="off"
        )
        async with opened(settings, Metrics()) as services:
            services.executor.submit(read, services.store)
            assert reading.wait(10)
    assert left == [0]
