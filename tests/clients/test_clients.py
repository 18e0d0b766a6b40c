"""Every client that others wrote passes its checks; see ``python -m tests.clients``."""

from __future__ import annotations

import pytest

from tests.clients.__main__ import CLIENTS, run
from tests.clients.environments import NotInstalled


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CLIENTS)
def test_the_client_works_through_the_proxy(name: str) -> None:
    try:
        found = run(name)
    except NotInstalled as error:
        pytest.skip(f"{name} cannot be installed here: {error}")
    assert found.failures == ()
    assert found.passed > 0
