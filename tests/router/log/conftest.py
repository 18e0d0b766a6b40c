from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from forethought.router.log import LogReader, LogWriter, Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(str(path)) as store:
        yield store


@pytest.fixture
def writer(store: Store) -> Iterator[LogWriter]:
    with LogWriter(store) as writer:
        yield writer


@pytest.fixture
def reader(store: Store) -> LogReader:
    return LogReader(store)
