"""Two servers on one Postgres: what one has learned the other answers with, and pays nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from forethought.api.metrics import Metrics
from forethought.api.services import opened
from forethought.api.settings_sources import load_settings
from tests.api.test_killed_server import serving, sleep_calls
from tests.fake_upstream import FakeUpstreamServer
from tests.postgres import postgres
from tests.router.sleeping import DRAFT, TEXT
from tests.waiting import wait_for

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(240)]


def test_a_context_that_one_server_learned_the_other_answers_with_and_sleep_is_paid_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeUpstreamServer(answer=lambda _: DRAFT) as upstream, postgres() as url:
        monkeypatch.setenv("FORETHOUGHT_DATABASE_URL", url)
        folders = [tmp_path / name for name in "ab"]
        for folder in folders:
            folder.mkdir()
        with (
            serving(folders[0], upstream.base_url) as (_, one),
            serving(folders[1], upstream.base_url) as (_, two),
            ThreadPoolExecutor() as threads,
        ):
            for client in (one, two):
                client.contexts.list()  # waits for sleep's start, so that both are asked at once
            asked = [
                threads.submit(client.contexts.create, text=TEXT, sleep=True)
                for client in (one, two)
            ]
            first, second = (call.result() for call in asked)
            assert first.id == second.id
            for client in (one, two):
                wait_for(
                    lambda: client.contexts.retrieve(first.id).learned is not None,  # noqa: B023
                    every_s=0.2,
                    at_most_s=90,
                )
            (learned,) = one.contexts.learned(first.id).data
            assert two.contexts.learned(first.id).data == [learned]
            assert [body["seed"] for body in sleep_calls(upstream)] == [0, 1, 2]
            for client in (two, one):
                raw = client.chat.completions.with_raw_response.create(
                    model="fake",
                    messages=[{"role": "user", "content": "How many pens?"}],
                    extra_body={"forethought": {"context": first.id, "strategy": "learned:low"}},
                )
                assert learned.id in raw.headers["x-forethought-changes"]
            assert one.contexts.retrieve(first.id).n_queries >= 1


async def test_a_budget_on_a_shared_log_says_that_it_is_of_one_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeUpstreamServer() as upstream, postgres() as url:
        settings = load_settings(
            data_dir=tmp_path, database_url=url, upstream_base_url=upstream.base_url, sleep="off",
            model="fake", budget_usd=1.0, prices={"fake": {"input": 1, "output": 1}},
        )  # fmt: skip
        async with opened(settings, Metrics()):
            pass
    assert "the budget is of this server alone: others on postgresql:" in caplog.text
