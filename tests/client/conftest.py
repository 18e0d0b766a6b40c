from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from forethought.client import AsyncForethought, Forethought
from tests.client.server import FakeForethought, serve


@pytest.fixture
def fake() -> Iterator[FakeForethought]:
    with serve() as running:
        yield running


@pytest.fixture
def client(fake: FakeForethought) -> Iterator[Forethought]:
    with Forethought(base_url=fake.base_url, max_retries=0, timeout=10) as opened:
        yield opened


@pytest.fixture
async def async_client(fake: FakeForethought) -> AsyncIterator[AsyncForethought]:
    async with AsyncForethought(base_url=fake.base_url, max_retries=0, timeout=10) as opened:
        yield opened
