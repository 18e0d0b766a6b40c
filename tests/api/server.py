"""A real Forethought server on a real socket, in a thread of the tests' process."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import uvicorn
from openai import OpenAI

from forethought.api.app import create_app
from forethought.api.server import listen
from forethought.api.services import Services
from forethought.api.settings_sources import load_settings
from forethought.client import Forethought
from forethought.router.records import LoggedDecision

KEY = "test-key"


class ApiServer(AbstractContextManager["ApiServer"]):
    """Serves ``base_url``, by default without sleep: DBOS allows one sleeper a process."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        defaults = {"sleep": "off", "upstream_max_retries": 0, "seed": 1, "policy_poll_s": 0.05}
        self.settings = load_settings(data_dir=data_dir, **{**defaults, **settings})
        self.app = create_app(self.settings)
        self._socket = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(self.app, log_level="error", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self.http = httpx2.Client(base_url=self.url, trust_env=False, timeout=20)
        self.openai = OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0, timeout=20)
        self.client = Forethought(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.close()
        self.openai.close()
        self.client.close()
        self._server.should_exit = True
        self._thread.join(20)
        self._socket.close()

    @property
    def services(self) -> Services:
        found: Services = self.app.state.services
        return found

    def post(self, path: str, body: Any, **headers: str) -> httpx2.Response:
        sent = {
            "authorization": f"Bearer {KEY}",
            **{n.replace("_", "-"): v for n, v in headers.items()},
        }
        return self.http.post(path, json=body, headers=sent)

    def chat(self, body: dict[str, Any], **headers: str) -> httpx2.Response:
        return self.post("/v1/chat/completions", {"model": "fake", **body}, **headers)

    def logged(self, reply: httpx2.Response) -> LoggedDecision:
        return self.logged_as(reply.headers["x-forethought-decision"])

    def logged_as(self, decision_id: str) -> LoggedDecision:
        """The decision as it is in the store, once it is there."""
        end = time.monotonic() + 2.0
        while True:
            logged = self.services.reader.logged_decisions()
            found = [one for one in logged if one.decision.id == decision_id]
            if found or time.monotonic() > end:
                (only,) = found
                return only
            time.sleep(0.01)
