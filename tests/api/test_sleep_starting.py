"""Sleep starts beside the server: requests do not wait for it, and go on without it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from forethought.router.sleep.workflow import Sleeper
from tests.api.conftest import Serve
from tests.waiting import wait_for

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
CHEAP = {"fake": {"input": 0.0001, "output": 0.0001}}


def test_requests_are_answered_before_sleep_has_started(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_start = threading.Event()
    start = Sleeper.start

    def late(self: Sleeper) -> None:
        assert may_start.wait(30)
        start(self)

    monkeypatch.setattr(Sleeper, "start", late)
    server = serve(sleep="always", prices=CHEAP)
    assert server.http.get("/readyz").json()["sleep"] == "always"
    said = {"role": "system", "content": "Tom has 3 boxes with 8 pens each."}
    reply = server.chat({"messages": [said, *HELLO["messages"]]})
    assert reply.status_code == 200
    may_start.set()
    # What came before the start is slept on all the same.
    context_id = reply.headers["x-forethought-context"]
    wait_for(lambda: server.client.contexts.retrieve(context_id).learned is not None, every_s=0.05)


def test_a_sleep_that_cannot_start_is_said_and_requests_go_on(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data" / "sleep.sqlite").mkdir(parents=True)
    server = serve(sleep="auto", prices=CHEAP)
    wait_for(lambda: server.http.get("/readyz").json()["sleep"] == "failed")
    assert server.chat(HELLO).status_code == 200
    assert server.http.get("/readyz").status_code == 200
    refused = server.post("/v1/contexts", {"text": "a", "sleep": True})
    assert refused.status_code >= 500
    assert "sleep store" in refused.json()["error"]["message"]
    key = {"authorization": "Bearer test-key"}
    contexts = server.http.get("/v1/contexts", headers=key).json()["data"]
    assert {context["sleep"]["status"] for context in contexts} == {"none"}
    # Its jobs hold its text: deleted is all of it or nothing.
    path = f"/v1/contexts/{contexts[0]['id']}"
    assert server.http.delete(path, headers=key).status_code >= 500
    assert server.http.get(path, headers=key).status_code == 200
    assert "sleep could not be started: The sleep store" in caplog.text
