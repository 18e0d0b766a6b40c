"""Servers in processes of their own take up a new champion, between two requests."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from forethought.models.bundle import PolicyBundle
from forethought.router.log import LogReader, Store
from forethought.router.registry import Registry
from tests.api.test_killed_server import serving as served
from tests.fake_upstream import FakeUpstreamServer

PATIENCE_S = 5.0


@pytest.mark.timeout(150)  # two servers start, some 4 s each on an idle machine
def test_two_servers_swap_within_seconds_and_never_serve_half_a_bundle(
    tmp_path: Path, bundles: tuple[PolicyBundle, PolicyBundle]
) -> None:
    data_dir = tmp_path / "data"
    registry = Registry(data_dir)
    registry.save(bundles[0])
    registry.promote(bundles[0].version)
    with (
        FakeUpstreamServer() as upstream,
        served(data_dir, upstream.base_url) as (_, one),
        served(data_dir, upstream.base_url) as (_, other),
    ):
        stop, failures = threading.Event(), []

        def traffic() -> None:
            while not stop.is_set():
                for client in (one, other):
                    try:
                        client.chat.completions.create(
                            model="fake", messages=[{"role": "user", "content": "How many?"}]
                        )
                    except Exception as error:  # noqa: BLE001 - each is one too many
                        failures.append(error)

        sender = threading.Thread(target=traffic)
        sender.start()
        try:
            time.sleep(0.5)
            registry.save(bundles[1])
            promoted_at = registry.promote(bundles[1].version).promoted_at
            time.sleep(PATIENCE_S + 1)
        finally:
            stop.set()
            sender.join()
    assert failures == []
    with Store.open(str(data_dir / "forethought.sqlite")) as store:
        decisions = [one.decision for one in LogReader(store).logged_decisions()]
    versions = [(d.created_at, d.policy_version) for d in decisions]
    assert {version for _, version in versions} == {bundle.version for bundle in bundles}
    assert {d.mode for d in decisions} <= {"greedy", "explored"}
    late = {version for at, version in versions if at > promoted_at + PATIENCE_S}
    assert late == {bundles[1].version}
