"""The command line as a person meets it: in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.fake_upstream import FakeUpstreamServer

FORETHOUGHT = [sys.executable, "-m", "forethought.api.cli"]


def forethought(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FORETHOUGHT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_the_version_is_printed() -> None:
    assert forethought("version").stdout.strip().count(".") == 2


def test_every_command_is_listed() -> None:
    said = forethought("--help").stdout
    for name in ("serve", "demo", "models", "train", "evaluate", "promote", "rollback", "version"):
        assert f" {name} " in said


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        pytest.param("c.toml", b"port = x", ["--config"], "is not TOML", id="config"),
        pytest.param("no/c.toml", None, ["--config"], "cannot be read", id="no config"),
        pytest.param("w.gguf", b"not weights", ["--model"], "GGUF", id="weights"),
        pytest.param("no.gguf", None, ["--model"], "no.gguf", id="no weights"),
        pytest.param("d.sqlite", b"no database" * 99, ["--database-url"], "SQLite", id="database"),
        pytest.param("file", b"", ["--data-dir"], "data folder", id="data folder"),
        pytest.param("u", None, ["--base-url"], "base_url", id="upstream's address"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_status_2(
    tmp_path: Path, name: str, content: bytes | None, options: list[str], said: str
) -> None:
    path = tmp_path / name
    if content is not None:
        write(path, content)
    more = (
        [] if options[0] in {"--model", "--base-url"} else ["--base-url", "http://127.0.0.1:9/v1"]
    )
    done = forethought("serve", "--port", "0", "--sleep", "off", *options, path, *more)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("forethought: ")]
    assert said in line
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = forethought("serve", "--base-url", "http://127.0.0.1:9/v1", "--port", port)
    assert done.returncode == 2
    assert port in done.stderr


class Served:
    """`forethought serve` in front of ``upstream``, until ``stop``."""

    def __init__(self, data_dir: Path, upstream: str, *more: str) -> None:
        self.process: Any = subprocess.Popen(
            [*FORETHOUGHT, "serve", "--port", "0", "--data-dir", data_dir]
            + ["--base-url", upstream, "--model", "fake", *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.said: list[str] = []
        while not any("/v1" in line and " at " in line for line in self.said):
            line = self.process.stdout.readline()
            assert line, self.said
            self.said.append(line)
        (address,) = (line.split()[1] for line in self.said if line.startswith("  at "))
        self.url = address.removesuffix("/v1")
        self.http = httpx2.Client(base_url=self.url, trust_env=False)

    def stop(self, number: int) -> int:
        self.http.close()
        self.process.send_signal(number)
        self.said += self.process.stdout.readlines()
        self.process.stdout.close()
        status: int = self.process.wait(20)
        return status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["terminated", "Ctrl-C"])
def test_a_server_ends_in_order(
    tmp_path: Path, fake: FakeUpstreamServer, number: signal.Signals
) -> None:
    served = Served(tmp_path, fake.base_url)
    body = {"model": "fake", "messages": [{"role": "user", "content": "Hi"}]}
    assert served.http.post("/v1/chat/completions", json=body).status_code == 200
    assert served.http.get("/readyz").json()["sleep"] == "auto"
    assert served.stop(number) == 0
    assert "Traceback" not in "".join(served.said)
    assert f"{tmp_path / 'forethought.sqlite'}" in "".join(served.said)
    # In order: SQLite has taken its write-ahead log back into the file.
    assert not (tmp_path / "forethought.sqlite-wal").exists()


def test_serving_loads_nothing_of_training() -> None:
    code = (
        "import sys, forethought.api.server, forethought.api.commands.serve, forethought.api.cli;"
        "print([m for m in sys.modules if m.partition('.')[0] == 'mlflow' or 'training' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, fake: FakeUpstreamServer) -> None:
    from forethought.router.log import LogReader, Store

    served = Served(tmp_path, fake.base_url, "--sleep", "off")
    body = {"model": "fake", "messages": [{"role": "user", "content": "Hi"}]}
    acknowledged = [
        served.http.post("/v1/chat/completions", json=body).headers["x-forethought-decision"]
        for _ in range(10)
    ]
    time.sleep(0.01)
    served.stop(signal.SIGKILL)
    with Store.open(str(tmp_path / "forethought.sqlite")) as store:
        logged = {d.decision.id: d.outcome for d in LogReader(store).logged_decisions()}
    assert set(acknowledged) == set(logged)
    assert all(outcome is not None for outcome in logged.values())
