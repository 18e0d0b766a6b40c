"""The demo's own server: `forethought serve` in a process of its own, on a free port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx2

from forethought.api.demo.errors import DemoError
from forethought.api.demo.sample import PARALLEL

START_TIMEOUT_S: Final = 180.0
STOP_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.1

KEPT_SETTINGS: Final = frozenset({"FORETHOUGHT_CACHE", "FORETHOUGHT_UPSTREAM_API_KEY"})
"""Of the user's own settings; the others are about another server than the demo's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What the server serves: the embedded ``model``, or the models of ``base_url``."""

    model: str | None
    base_url: str | None
    data_dir: Path
    port: int
    seed: int


class DemoServer(AbstractContextManager["DemoServer"]):
    """Runs the server while the ``with`` block does. It never outlives the block."""

    def __init__(self, served: Served) -> None:
        self.port = served.port or free_port()
        self.log_path = served.data_dir / "server.log"
        self._served = served
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "forethought.api.demo.child"]
        with self.log_path.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.PIPE,  # its end stops the server: see child.py
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment() | self._settings(),
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process: asked first, then killed."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            if process.stdin is not None:
                process.stdin.close()

    def _settings(self) -> dict[str, str]:
        served = self._served
        given = {
            "HOST": "127.0.0.1",
            "PORT": self.port,
            "DATA_DIR": served.data_dir,
            "MODEL": served.model,
            "UPSTREAM_BASE_URL": served.base_url,
            "PARALLEL": PARALLEL,
            "SLEEP_CONCURRENCY": PARALLEL,
            "SEED": served.seed,
        }
        return {f"FORETHOUGHT_{k}": str(v) for k, v in given.items() if v is not None}

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        ready = f"http://127.0.0.1:{self.port}/readyz"
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise DemoError(
                    f"The server ended with status {process.returncode}: {self.last_words()}",
                    param="server",
                )
            try:
                if httpx2.get(ready, timeout=2.0, trust_env=False).is_success:
                    return
            except httpx2.HTTPError:
                pass
            time.sleep(POLL_S)
        raise DemoError(
            f"The server was not ready after {START_TIMEOUT_S:.0f} s: {self.last_words()}",
            param="server",
        )

    def last_words(self) -> str:
        """The last line that the server logged."""
        try:
            lines = self.log_path.read_text("utf-8", errors="replace").split("\n")
        except OSError:
            return "it left no log."
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing.")


def environment() -> dict[str, str]:
    """The environment for the demo's own processes, without settings for other servers."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FORETHOUGHT_") or name in KEPT_SETTINGS
    }


def free_port() -> int:
    """A TCP port of this machine that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
