from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from forethought.models.bundle import PolicyBundle
from forethought.router.registry import Registry
from tests.api.server import ApiServer
from tests.fake_upstream import FakeUpstreamServer
from tests.models.synthetic import fit_policy

Serve = Callable[..., ApiServer]
Bundles = tuple[PolicyBundle, PolicyBundle]


@pytest.fixture(scope="session")
def shared_fake() -> Iterator[FakeUpstreamServer]:
    with FakeUpstreamServer() as fake:
        yield fake


@pytest.fixture
def fake(shared_fake: FakeUpstreamServer) -> FakeUpstreamServer:
    shared_fake.requests.clear()
    return shared_fake


@pytest.fixture(scope="session")
def shared_server(
    shared_fake: FakeUpstreamServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    folder = tmp_path_factory.mktemp("server")
    with ApiServer(folder, upstream_base_url=shared_fake.base_url, model="fake") as server:
        yield server


@pytest.fixture
def server(shared_server: ApiServer, fake: FakeUpstreamServer) -> ApiServer:
    """A server that all tests share; what they send is their own."""
    return shared_server


@pytest.fixture
def serve(fake: FakeUpstreamServer, tmp_path: Path) -> Iterator[Serve]:
    """Starts a server of the test's own, by default in front of ``fake``."""
    with ExitStack() as stack:

        def start(**settings: Any) -> ApiServer:
            given = {"upstream_base_url": fake.base_url, "model": "fake", **settings}
            return stack.enter_context(ApiServer(tmp_path / "data", **given))

        yield start


@pytest.fixture(scope="session")
def bundles() -> Bundles:
    """Two policies, fitted on invented decisions."""
    return fit_policy(40, seed=1), fit_policy(40, seed=2)


@pytest.fixture
def registry(tmp_path: Path, bundles: Bundles) -> Registry:
    """The data folder of ``serve`` with both policies; the first is the champion."""
    registry = Registry(tmp_path / "data")
    for bundle in bundles:
        registry.save(bundle)
    registry.promote(bundles[0].version)
    return registry
