"""The connections are tried on both event loops: asyncio's own, and uvloop, which serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
ON_BOTH = {"test_connections", "test_openai", "test_replies", "test_retries"}


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return LOOPS if item.path.stem in ON_BOTH else {"asyncio": asyncio.new_event_loop}
