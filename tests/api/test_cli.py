"""The command line: errors in this process, servers in processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from forethought.api.cli import main
from tests.fake_upstream import FakeUpstreamServer

_ANY = ["--port", "0", "--model", "fake"]
FORETHOUGHT = [sys.executable, "-m", "forethought.api.cli"]


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Forethought = Callable[..., Done]


@pytest.fixture
def forethought(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Forethought:
    """Runs a command in this process: importing the server takes seconds."""

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["forethought", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        out, err = capsys.readouterr()
        return Done(code if isinstance(code, int) else 0, out, err)

    return run


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("asked", ["version", "--version"])
def test_the_version_is_printed(forethought: Forethought, asked: str) -> None:
    assert forethought(asked).stdout.strip().count(".") == 2


def test_every_command_is_listed(forethought: Forethought) -> None:
    said = forethought("--help").stdout
    for name in (
        "serve",
        "demo",
        "models",
        "why",
        "train",
        "evaluate",
        "promote",
        "rollback",
        "version",
    ):
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
    forethought: Forethought,
    tmp_path: Path,
    name: str,
    content: bytes | None,
    options: list[str],
    said: str,
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


def test_a_port_in_use_is_named(forethought: Forethought) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = forethought("serve", "--base-url", "http://127.0.0.1:9/v1", "--port", port)
    assert done.returncode == 2
    assert port in done.stderr


class Served:
    """`forethought serve` in front of ``upstream``, until ``stop``."""

    def __init__(self, data_dir: Path, upstream: str, *more: str) -> None:
        process = subprocess.Popen(
            [*FORETHOUGHT, "serve", "--data-dir", data_dir, "--base-url", upstream, *_ANY, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        self.process, self.output = process, process.stdout
        self.said: list[str] = []
        while not any("/v1" in line and " at " in line for line in self.said):
            line = self.output.readline()
            assert line, self.said
            self.said.append(line)
        (address,) = (line.split()[1] for line in self.said if line.startswith("  at "))
        self.url = address.removesuffix("/v1")
        self.http = httpx2.Client(base_url=self.url, trust_env=False)

    def stop(self, number: int) -> int:
        self.http.close()
        self.process.send_signal(number)
        self.said += self.output.readlines()
        self.output.close()
        return self.process.wait(20)


def test_a_server_ends_in_order(tmp_path: Path, fake: FakeUpstreamServer) -> None:
    served = Served(tmp_path, fake.base_url)
    body = {"model": "fake", "messages": [{"role": "user", "content": "Hi"}]}
    assert served.http.post("/v1/chat/completions", json=body).status_code == 200
    assert served.http.get("/readyz").json()["sleep"] == "auto"
    assert served.stop(signal.SIGTERM) == 0
    assert "Traceback" not in "".join(served.said)
    assert f"{tmp_path / 'forethought.sqlite'}" in "".join(served.said)
    # In order: SQLite has taken its write-ahead log back into the file.
    assert not (tmp_path / "forethought.sqlite-wal").exists()


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
