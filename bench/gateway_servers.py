"""The servers that ``bench.gateway`` compares: processes of their own before one mock upstream."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.gateway_load import Connection, request
from bench.gateway_mock import MODEL

LITELLM: Final = "1.108.7"
START_S: Final = 120.0

DIRECT: Final = "upstream itself"
BARE: Final = "FastAPI and httpx, bare"
LITE: Final = f"LiteLLM {LITELLM}"
OURS: Final = "Forethought"
OFF: Final = {
    "without the log": "log",
    "without prediction": "prediction",
    "without both": "log,prediction",
}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it listens, its process, and how long it took to answer."""

    name: str
    port: int
    pid: int
    ready_s: float

    def rss_mb(self) -> float:
        """Resident memory of the process and of those that it started, in MB (10^6 bytes)."""
        return sum(_rss_kb(pid) for pid in _family(self.pid)) * 1024 / 1e6


@contextmanager
def servers(folder: Path, litellm: Path | None, *, parts: bool) -> Iterator[list[Server]]:
    """Start all of them, one after the other; stop them at the end. Their logs go to ``folder``."""
    with ExitStack() as stack:

        def started(name: str, command: Sequence[str], port: int) -> Server:
            return stack.enter_context(_running(name, command, port, folder))

        def compiled(command: Sequence[str], port: int) -> None:
            # Its modules are compiled by its first start, where no installer did it. How long
            # that takes says nothing of the second start, or of an installed server's first.
            with _running("first start", command, port, folder):
                pass

        python, mock_port = sys.executable, _free_port()
        upstream = f"http://127.0.0.1:{mock_port}/v1"
        mock = [python, "-m", "bench.gateway_mock", "mock", str(mock_port)]
        found = [started(DIRECT, mock, mock_port)]
        port = _free_port()
        bare = [python, "-m", "bench.gateway_mock", "bare", str(port), upstream]
        compiled(bare, port)
        found.append(started(BARE, bare, port))
        if litellm is not None:
            port = _free_port()
            config = folder / "litellm.yaml"
            config.write_text(_LITELLM.format(model=MODEL, upstream=upstream), encoding="utf-8")
            own = [str(litellm), "--config", str(config), "--port", str(port), "--num_workers", "1"]
            found.append(started(LITE, own, port))
        variants = {OURS: "", **(OFF if parts else {})}
        for name, off in variants.items():
            port = _free_port()
            program = ["bench.gateway_child", off] if off else ["forethought.api.cli", "serve"]
            options = [
                "--port", str(port), "--base-url", upstream, "--model", MODEL, "--sleep", "off",
                "--seed", "0",
            ]  # fmt: skip
            command = [python, "-m", *program, *options, "--data-dir"]
            if name == OURS:
                compiled([*command, str(folder / "first-start")], port)
            found.append(started(name, [*command, str(folder / name.replace(" ", "-"))], port))
        yield found


def litellm_in(folder: Path) -> Path:
    """The litellm command of an environment of its own, made if it is not there (minutes)."""
    command = folder / "bin" / "litellm"
    if not command.exists():
        print(f"installing LiteLLM {LITELLM} in {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, f"litellm[proxy]=={LITELLM}"], check=True)
    return command


@contextmanager
def _running(name: str, command: Sequence[str], port: int, folder: Path) -> Iterator[Server]:
    log = (folder / f"{name.replace(' ', '-')}.log").open("wb")
    begun = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=log,
        stderr=log,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env=_environment(),
    )
    try:
        _wait(name, process, port, Path(log.name))
        yield Server(name, port, process.pid, time.perf_counter() - begun)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()


def _wait(name: str, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until the first chat completion is answered."""
    end = time.monotonic() + START_S
    asked = request(port, stream=False)
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{name} did not start: {log.read_text('utf-8', 'replace')[-2000:]}")
        try:
            with Connection(port) as connection:
                if connection.ask(asked).status == http.client.OK:
                    return
        except OSError:
            pass
        time.sleep(0.02)
    raise RuntimeError(f"{name} did not answer within {START_S:g} s; its log is {log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(own for child in children for own in _family(int(child)))]


def _rss_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)


def _environment() -> dict[str, str]:
    """Ours, in which what is compiled may be kept."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **_WITHOUT_KEYS}


# LiteLLM's cheapest: no key is looked up.
_WITHOUT_KEYS: Final = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}

_LITELLM: Final = """\
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: {upstream}
      api_key: none
"""
