"""Sleep on a real DBOS with a real store: durable, at most once, and paid for once."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from forethought.router.errors import StoreError
from forethought.router.records import LearnedContext, SleepLevel, Usage
from forethought.router.sleep import calls
from forethought.router.sleep.workflow import Sleeper, SleepSettings
from tests.fake_upstream import FakeUpstreamServer
from tests.packages import REPOSITORY
from tests.router.log.factories import make_context
from tests.router.sleeping import DRAFT, LEVEL, TEXT, running_sleeper
from tests.waiting import wait_for


@pytest.fixture
def fake() -> Iterator[FakeUpstreamServer]:
    with FakeUpstreamServer(answers={TEXT: DRAFT}) as server:
        yield server


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sleep store that DBOS has prepared, which takes it a second or two."""
    folder = tmp_path_factory.mktemp("empty")
    with running_sleeper(folder, "http://127.0.0.1:1"):
        pass
    return folder / "sleep.sqlite"


@pytest.fixture
def folder(tmp_path: Path, empty_store: Path) -> Path:
    """A data folder of the test's own."""
    shutil.copy(empty_store, tmp_path)
    return tmp_path


def calls_by_label(fake: FakeUpstreamServer) -> dict[str, int]:
    """How often each draft was asked for; a draft is told by its seed."""
    return dict(Counter(f"draft {request.body['seed'] + 1}" for request in fake.requests))


def test_a_sleep_asks_for_the_tier_that_it_was_bought_at(
    folder: Path, fake: FakeUpstreamServer
) -> None:
    with running_sleeper(folder, fake.base_url) as sleeping:
        sleeping.enqueue(0)
        assert sleeping.wait_until_ended(0) == "done"
        cheap = make_context(1, text=TEXT)
        sleeping.writer.write_sync(cheap)
        sleeping.sleeper.enqueue(cheap, LEVEL, tier="flex")
        assert sleeping.wait_until_ended(1) == "done"
    asked = [request.body.get("service_tier") for request in fake.requests]
    assert asked == [None] * LEVEL.drafts + ["flex"] * LEVEL.drafts


def test_a_sleep_writes_a_learned_context_with_its_cost_once(
    folder: Path, fake: FakeUpstreamServer
) -> None:
    news: list[LearnedContext] = []
    with running_sleeper(folder, fake.base_url, on_learned=news.append) as sleeping:
        assert sleeping.status(0) == "none"
        fake.script("delay=300")
        assert sleeping.enqueue(0) == sleeping.enqueue(0) == "sleep:ctx_0:k3r1:v1"
        assert sleeping.status(0) in {"queued", "running"}
        assert sleeping.wait_until_ended(0) == "done"

        learned = sleeping.learned(0)
        assert news == [learned]
        assert calls_by_label(fake) == {"draft 1": 1, "draft 2": 1, "draft 3": 1}
        assert [(n.text, n.answer) for n in learned.notes] == [
            ("How many pens?", "24"),
            ("How many are left?", "19"),
        ]
        assert (learned.version, learned.level, learned.model) == (1, "k3r1", "m")
        used = learned.usage
        assert used.output_tokens == 3 * len(DRAFT.split())
        assert 0 < used.cached_tokens < used.input_tokens
        spent = used.input_tokens - 0.9 * used.cached_tokens + 4 * used.output_tokens
        assert learned.cost_usd == pytest.approx(spent / 1e6)

        # Asked for again, it is a new version, and what was stored is not stored twice.
        sleeping.sleeper._store(learned)
        assert sleeping.enqueue(0) == "sleep:ctx_0:k3r1:v2"
        assert sleeping.wait_until_ended(0) == "done"
        assert [v.version for v in sleeping.reader.learned_versions("ctx_0")] in ([1, 2], [2, 1])
        assert sleeping.status(10) == "none"


def test_a_sleep_killed_in_mid_call_is_finished_without_repeating_finished_calls(
    folder: Path, fake: FakeUpstreamServer
) -> None:
    fake.script("", "hang")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.router.sleeping", str(folder), fake.base_url],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    try:
        wait_for(lambda: calls_by_label(fake).get("draft 2") == 1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert calls_by_label(fake) == {"draft 1": 1, "draft 2": 1}

    with running_sleeper(folder, fake.base_url) as sleeping:
        assert sleeping.wait_until_ended(0) == "done"
        assert sleeping.wait_until_ended(1) == "done"  # it was queued behind the first
        learned = sleeping.learned(0)
        # Of the first sleep, draft 1 came from the store; the second asked for all three.
        assert calls_by_label(fake) == {"draft 1": 2, "draft 2": 3, "draft 3": 2}
        assert learned.usage.output_tokens == 3 * len(DRAFT.split())
        assert [n.answer for n in learned.notes] == ["24", "19"]
        assert [v.version for v in sleeping.reader.learned_versions("ctx_0")] == [1]


def test_one_sleep_runs_at_a_time_and_a_stop_neither_waits_nor_counts_as_a_failure(
    folder: Path, fake: FakeUpstreamServer
) -> None:
    fake.script("", "hang")
    with running_sleeper(folder, fake.base_url) as sleeping:
        sleeping.enqueue(0)
        sleeping.enqueue(1)
        wait_for(lambda: len(fake.requests) == 2)
        assert (sleeping.status(0), sleeping.status(1)) == ("running", "queued")
    wait_for(lambda: not any(t.name.startswith("dbos-executor") for t in threading.enumerate()))
    with running_sleeper(folder, fake.base_url) as sleeping:
        assert [sleeping.wait_until_ended(n) for n in (0, 1)] == ["done", "done"]
    assert calls_by_label(fake) == {"draft 1": 2, "draft 2": 3, "draft 3": 2}


def test_a_sleep_whose_context_is_deleted_meanwhile_stays_paid(
    folder: Path, fake: FakeUpstreamServer
) -> None:
    with running_sleeper(folder, fake.base_url) as sleeping:
        fake.script("delay=500")
        sleeping.enqueue(0)
        wait_for(lambda: len(fake.requests) == 1)
        assert sleeping.reader.delete_context("ctx_0", "acme")
        assert sleeping.wait_until_ended(0) == "done"
        ((_, spent),) = sleeping.reader.sleep_spending(0.0)
        assert spent > 0
        assert sleeping.reader.latest_learned("ctx_0") is None


def test_the_jobs_of_a_deleted_context_go_with_their_text(
    folder: Path, fake: FakeUpstreamServer
) -> None:
    def rows() -> int:
        with sqlite3.connect(folder / "sleep.sqlite") as connection:
            found = sum("sleep:ctx_0:" in line for line in connection.iterdump())
        connection.close()
        return found

    with running_sleeper(folder, fake.base_url) as sleeping:
        sleeping.enqueue(0)
        assert sleeping.wait_until_ended(0) == "done"
        assert rows() > LEVEL.drafts
        sleeping.reader.delete_context("ctx_0", "acme")
        sleeping.sleeper.forget("ctx_0")
        assert (sleeping.status(0), rows()) == ("none", 0)


def test_a_sleep_at_another_level_has_a_version_of_its_own(
    folder: Path, fake: FakeUpstreamServer
) -> None:
    with running_sleeper(folder, fake.base_url) as sleeping:
        fake.script("delay=500")
        assert sleeping.enqueue(0) == "sleep:ctx_0:k3r1:v1"
        context = sleeping.context(0)
        for _ in range(2):
            more = sleeping.sleeper.enqueue(context, SleepLevel(drafts=4))
            assert more == "sleep:ctx_0:k4r1:v2"
        wait_for(lambda: len(sleeping.reader.learned_versions("ctx_0")) == 2)
        assert [v.level for v in sleeping.reader.learned_versions("ctx_0")] == ["k4r1", "k3r1"]
        assert sleeping.sleeper.enqueue_first(context, LEVEL) is None
    assert len(fake.requests) == 7


def test_a_failed_sleep_says_so_and_is_taken_up_where_it_failed(
    folder: Path, fake: FakeUpstreamServer
) -> None:
    with running_sleeper(folder, fake.base_url) as sleeping:
        fake.script("", "status=400")
        sleeping.enqueue(0)
        assert sleeping.wait_until_ended(0) == "failed"
        assert calls_by_label(fake) == {"draft 1": 1, "draft 2": 1}  # a refusal is final
        fake.script("status=401")
        assert sleeping.enqueue(0) == "sleep:ctx_0:k3r1:v1:retry1"
        wait_for(lambda: len(fake.requests) == 3)
        assert sleeping.wait_until_ended(0) == "failed"
        assert sleeping.enqueue(0) == "sleep:ctx_0:k3r1:v1:retry2"
        assert sleeping.wait_until_ended(0) == "done"
        assert calls_by_label(fake) == {"draft 1": 1, "draft 2": 3, "draft 3": 1}
        assert sleeping.learned(0).usage.output_tokens == 3 * len(DRAFT.split())


def test_a_call_that_can_succeed_later_is_made_again(
    folder: Path, fake: FakeUpstreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "WAITS_S", (0.01, 0.01))

    def deaf(learned: LearnedContext) -> None:
        raise RuntimeError("nobody listens")

    with running_sleeper(folder, fake.base_url, on_learned=deaf) as sleeping:
        fake.script("garbage", "garbage")
        sleeping.enqueue(0)
        assert sleeping.wait_until_ended(0) == "done"
        assert calls_by_label(fake) == {"draft 1": 3, "draft 2": 1, "draft 3": 1}
        assert sleeping.learned(0).usage != Usage()


@pytest.mark.parametrize("content", [None, b"not a database, but long enough to look at" * 30])
def test_a_store_that_cannot_be_used_is_named(
    tmp_path: Path, fake: FakeUpstreamServer, content: bytes | None
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_bytes(content or b"")
    path = blocked / "sleep.sqlite" if content is None else blocked
    with (
        pytest.raises(StoreError, match=f"The sleep store sqlite:///{path} cannot be opened"),
        running_sleeper(tmp_path, fake.base_url, sleep_store=path),
    ):
        pass
    assert blocked.read_bytes() == (content or b"")


def test_nothing_is_queued_before_the_start() -> None:
    sleeper = Sleeper(
        settings=SleepSettings(model="m"),
        ask=lambda _: Future(),
        system_database_url="sqlite:///unused",
        reader=None,  # type: ignore[arg-type]
        writer=None,  # type: ignore[arg-type]
        prices=None,  # type: ignore[arg-type]
    )
    with pytest.raises(RuntimeError, match="start the Sleeper first"):
        sleeper.enqueue(make_context(), LEVEL)
