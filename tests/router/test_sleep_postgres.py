"""Processes that share a sleep store on Postgres: the work is shared, and paid once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest

from forethought.router.errors import StoreError
from forethought.router.sleep import executors
from forethought.router.sleep.workflow import Sleeper, SleepSettings
from tests.fake_upstream import FakeUpstreamServer
from tests.packages import REPOSITORY
from tests.postgres import postgres
from tests.router.sleeping import DRAFT, TEXT, running_sleeper
from tests.waiting import wait_for

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]


@pytest.fixture
def url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture
def fake() -> Iterator[FakeUpstreamServer]:
    with FakeUpstreamServer(answers={TEXT: DRAFT}) as server:
        yield server


@contextmanager
def another(folder: Path, fake: FakeUpstreamServer, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has queued sleeps on ``ctx_0`` and ``ctx_1``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.router.sleeping", str(folder), fake.base_url, url],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def drafts(fake: FakeUpstreamServer) -> list[int]:
    return sorted(request.body["seed"] + 1 for request in fake.requests)


def test_a_sleep_of_a_process_that_lives_is_left_to_it_and_one_that_died_is_finished(
    tmp_path: Path, fake: FakeUpstreamServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "LOOK_EVERY_S", 0.2)
    fake.script("", "hang")
    with another(tmp_path, fake, url):
        wait_for(lambda: drafts(fake) == [1, 2], at_most_s=60)
        with running_sleeper(tmp_path, fake.base_url, database_url=url) as sleeping:
            # What waits in the queue anyone takes; what runs there is not begun here as well.
            assert sleeping.wait_until_ended(1) == "done"
            assert sleeping.enqueue(0) == "sleep:ctx_0:k3r1:v1"
            assert sleeping.status(0) == "running"
            assert drafts(fake) == [1, 1, 2, 2, 3]
    with running_sleeper(tmp_path, fake.base_url, database_url=url) as sleeping:
        assert sleeping.wait_until_ended(0) == "done"
        # Only the call in flight was made again.
        assert drafts(fake) == [1, 1, 2, 2, 2, 3, 3]
        assert [n.answer for n in sleeping.learned(0).notes] == ["24", "19"]
        assert [v.version for v in sleeping.reader.learned_versions("ctx_0")] == [1]


def test_a_database_that_is_not_there_is_named_without_its_password() -> None:
    sleeper = Sleeper(
        settings=SleepSettings(model="m"),
        ask=lambda _: Future(),
        system_database_url="postgresql+psycopg://me:secret@127.0.0.1:9/none",
        reader=None,  # type: ignore[arg-type]
        writer=None,  # type: ignore[arg-type]
        prices=None,  # type: ignore[arg-type]
    )
    with pytest.raises(StoreError, match=r"sleep store postgresql.*127\.0\.0\.1") as caught:
        sleeper.start()
    assert "secret" not in str(caught.value)
