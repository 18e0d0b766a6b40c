"""A server killed in mid-sleep finishes the job when it is started again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from forethought.client import Forethought
from tests.fake_upstream import FakeUpstreamServer
from tests.router.sleeping import DRAFT, TEXT
from tests.waiting import wait_for

COMMAND = [sys.executable, "-m", "forethought.api.cli", "serve", "--port", "0"]


@contextmanager
def serving(data_dir: Path, upstream: str) -> Iterator[tuple[subprocess.Popen[str], Forethought]]:
    """``forethought serve`` in a process of its own, and a client for it."""
    said = data_dir.parent / f"said-{time.monotonic_ns()}.txt"
    with said.open("w") as out:
        process = subprocess.Popen(
            [*COMMAND, "--data-dir", data_dir, "--base-url", upstream, "--model", "fake"],
            stdout=out,
            stderr=out,
            text=True,
        )
    try:
        wait_for(lambda: "/v1" in said.read_text() or process.poll() is not None, every_s=0.1,
                 at_most_s=90)  # fmt: skip
        assert process.poll() is None, said.read_text()
        url = next(
            w for w in said.read_text().split() if w.startswith("http") and upstream not in w
        )
        with Forethought(base_url=url, api_key="k") as client:
            yield process, client
    finally:
        process.kill()
        process.wait()


@pytest.mark.timeout(150)  # two servers start, some 4 s each on an idle machine
def test_a_server_killed_in_mid_sleep_finishes_without_repeating_calls(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    with FakeUpstreamServer(answer=lambda _: DRAFT) as upstream:
        # The first call is answered at once, the second only after the server was killed.
        upstream.script("", "hang")
        with serving(data_dir, upstream.base_url) as (process, client):
            context = client.contexts.create(text=TEXT, sleep=True)
            wait_for(lambda: len(sleep_calls(upstream)) == 2)
            process.send_signal(signal.SIGKILL)
            process.wait()
        with serving(data_dir, upstream.base_url) as (_, client):
            wait_for(
                lambda: client.contexts.retrieve(context.id).learned is not None,
                every_s=0.2,
                at_most_s=60,
            )
            (learned,) = client.contexts.learned(context.id).data
    seeds = [body["seed"] for body in sleep_calls(upstream)]
    assert seeds == [0, 1, 1, 2], "only the call in flight is made again"
    assert learned.version == 1
    assert {note.answer for note in learned.notes} == {"24", "19"}


def sleep_calls(upstream: FakeUpstreamServer) -> list[dict[str, int]]:
    return [r.body for r in upstream.requests if "seed" in r.body]
