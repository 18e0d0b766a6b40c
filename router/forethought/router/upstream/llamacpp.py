"""The embedded upstream: llama.cpp's server on local weights, in a process of its own.

A crash or a long prefill there never blocks or kills the proxy. The child dies with this
process, whatever ends it; when the child dies first, it is started again, at the same
address, and requests wait for it for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx2

from forethought.router.errors import ConfigError, UpstreamError, UpstreamTimeout, WeightsError
from forethought.router.upstream.base import UpstreamReply, UpstreamStream
from forethought.router.upstream.gguf import check_gguf
from forethought.router.upstream.llamacpp_child import (
    EXIT_CANNOT_LOAD,
    EXIT_NOT_INSTALLED,
    ChildSettings,
)
from forethought.router.upstream.openai import OpenAIUpstream
from forethought.router.upstream.patience import Timeouts

T = TypeVar("T")

log = logging.getLogger(__name__)

START_TIMEOUT_S: Final = 180.0
"""A 1.1 GB file on a slow disk takes 20 s; this leaves room for ten times that."""

WAIT_FOR_RESTART_S: Final = 30.0
STOP_TIMEOUT_S: Final = 5.0
FIRST_BACKOFF_S: Final = 0.5
LONGEST_BACKOFF_S: Final = 30.0
HEALTHY_AFTER_S: Final = 60.0
CACHE_RAM_MIB: Final = 1024
"""For prompts whose slot was given to another; llama.cpp's own default is 8 GiB."""


class EmbeddedUpstream:
    """llama.cpp on the GGUF file ``weights``, behind the same interface as a remote server.

    Args:
        weights: The GGUF file; checked when the upstream starts.
        alias: The model's id in replies and in /models.
        n_ctx: Tokens of context, shared by the parallel requests.
        parallel: Requests computed at the same time.
        threads: None takes the processors this process may use.
        port: 0 takes a free one.
        log_path: Where the child's output goes; None takes a file in the temporary folder.
        timeouts: Waiting times; a long prefill is not a failure, so reading waits long.
    """

    def __init__(
        self,
        weights: Path,
        *,
        alias: str,
        n_ctx: int = 16_384,
        parallel: int = 4,
        threads: int | None = None,
        port: int = 0,
        log_path: Path | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._weights = weights
        self._alias = alias
        self._n_ctx = n_ctx
        self._parallel = parallel
        self._threads = threads or usable_processors()
        self._port = port
        self._log_path = log_path
        self._timeouts = timeouts or Timeouts()
        self._api_key = secrets.token_urlsafe(24)
        self._process: asyncio.subprocess.Process | None = None
        self._server: OpenAIUpstream | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self.restarts = 0

    @property
    def name(self) -> str:
        return "embedded"

    @property
    def base_url(self) -> str:
        """The address of the child's server; empty before the first start."""
        return self._server.base_url if self._server else ""

    @property
    def alias(self) -> str:
        return self._alias

    @property
    def api_key(self) -> str:
        """The key of the child's server, for other clients in this process. Never shown."""
        return self._api_key

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._process.pid if self._process else None

    @property
    def log_path(self) -> Path:
        if self._log_path is None:
            folder = Path(tempfile.mkdtemp(prefix="forethought-"))
            self._log_path = folder / f"{self._alias}.log"
        return self._log_path

    async def start(self) -> None:
        """Start the child and wait until it answers.

        Raises:
            WeightsError: The file is missing, not a GGUF file, or llama.cpp refuses it.
            UpstreamError: The child ended, or did not answer in time.
        """
        if self._supervisor is not None:
            return
        check_gguf(self._weights)
        await self._spawn()
        self._supervisor = asyncio.create_task(self._keep_running(), name="embedded-upstream")

    async def aclose(self) -> None:
        """End the child. Safe to call twice, and before the start."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await supervisor
        self._up.clear()
        server, self._server = self._server, None
        if server is not None:
            await server.aclose()
        await self._stop_child()

    async def complete(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> UpstreamReply:
        """POST ``body`` to the child's /chat/completions."""
        return await self.send("POST", "/chat/completions", body, headers)

    def stream(
        self, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[UpstreamStream]:
        """The same, streamed. Leaving the context stops the computation."""
        return self.send_stream("/chat/completions", body, headers)

    async def send(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> UpstreamReply:
        """Send ``body`` to any of the child's endpoints."""
        reply = await self._called(lambda server: server.send(method, path, body, headers))
        return _in_openai_shape(reply)

    @asynccontextmanager
    async def send_stream(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AsyncIterator[UpstreamStream]:
        """POST ``body`` to any of them, streamed. Leaving the context stops the computation."""
        async with contextlib.AsyncExitStack() as stack:
            stream = await self._called(
                lambda server: stack.enter_async_context(server.send_stream(path, body, headers))
            )
            if stream.status < httpx2.codes.BAD_REQUEST:
                yield stream
                return
            raw = b"".join([chunk async for chunk in stream.chunks])
            reply = _in_openai_shape(UpstreamReply(stream.status, stream.headers, raw))
            yield UpstreamStream(reply.status, reply.headers, _only(reply.body))

    async def models(self) -> UpstreamReply:
        """GET /models."""
        return await self._called(lambda server: server.models())

    async def ready(self) -> bool:
        """Whether the child answers now."""
        server = self._server
        return self._up.is_set() and server is not None and await server.ready()

    async def _called(self, call: Callable[[OpenAIUpstream], Awaitable[T]]) -> T:
        """What the child says; where it has just ended, what its successor says."""
        server = await self._running_server()
        process = self._process
        try:
            return await call(server)
        except UpstreamTimeout:
            raise
        except UpstreamError as error:
            if error.reached or process is None:
                raise
            # Nothing listens any more. The event loop is told of a process's end a moment later.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), WAIT_FOR_RESTART_S)
        return await call(await self._running_server())

    async def _running_server(self) -> OpenAIUpstream:
        if self._supervisor is None:
            message = "The embedded model is not started."
            raise UpstreamError(message, param=self.name, remedy="Start the server first.")
        try:
            async with asyncio.timeout(WAIT_FOR_RESTART_S):
                await self._up.wait()
        except TimeoutError as error:
            raise UpstreamError(
                "The embedded model is down and did not come back in time.",
                param=self.name,
                remedy=f"See {self.log_path}.",
            ) from error
        if self._server is None:
            message = "The embedded model was stopped."
            raise UpstreamError(message, param=self.name)
        return self._server

    async def _keep_running(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        while True:
            process = self._process
            if process is not None:
                started = time.monotonic()
                status = await process.wait()
                self._up.clear()
                if time.monotonic() - started > HEALTHY_AFTER_S:
                    backoff_s = FIRST_BACKOFF_S
                log.warning(
                    "the embedded model ended with status %s (see %s); restart in %.1f s",
                    status,
                    self.log_path,
                    backoff_s,
                )
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)
            self.restarts += 1
            try:
                await self._spawn()
            except (UpstreamError, WeightsError, OSError) as error:
                log.warning("the embedded model did not start: %s", error)

    async def _spawn(self) -> None:
        ready_read, ready_write = os.pipe()
        with open(ready_read, "rb", buffering=0) as ready:  # noqa: PTH123, ASYNC230 - a pipe's end
            try:
                await self._launch(ready_write)
            finally:
                os.close(ready_write)
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    address = await self._address(ready.fileno())
            except BaseException as error:
                await self._stop_child()
                if isinstance(error, TimeoutError):
                    message = f"The embedded model did not answer within {START_TIMEOUT_S:.0f} s."
                    remedy = f"See {self.log_path}."
                    raise UpstreamError(message, param=self.name, remedy=remedy) from error
                raise
        if self._server is None:
            self._port = int(address.rpartition(":")[2])
            self._server = OpenAIUpstream(
                f"{address}/v1",
                self._api_key,
                name=self.name,
                timeouts=self._timeouts,
                # A request that crashed the child would only crash it again.
                max_retries=0,
                local=True,
            )
        self._up.set()

    async def _launch(self, ready_fd: int) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        output = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "forethought.router.upstream.llamacpp_child",
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(ready_fd,),
                # Ctrl-C on the terminal is for the parent, which then ends the child in order.
                start_new_session=True,
            )
        finally:
            os.close(output)
        settings = ChildSettings(
            weights=str(self._weights),
            alias=self._alias,
            n_ctx=self._n_ctx,
            parallel=self._parallel,
            threads=self._threads,
            port=self._port,
            api_key=self._api_key,
            cache_ram_mib=CACHE_RAM_MIB,
            ready_fd=ready_fd,
            parent_pid=os.getpid(),
        )
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps(settings).encode() + b"\n")

    async def _address(self, ready_fd: int) -> str:
        """Wait for the child's line; its end without one means that the child ended."""
        loop = asyncio.get_running_loop()
        os.set_blocking(ready_fd, False)
        readable = asyncio.Event()
        loop.add_reader(ready_fd, readable.set)
        received = b""
        try:
            while True:
                await readable.wait()
                readable.clear()
                with contextlib.suppress(BlockingIOError):
                    piece = os.read(ready_fd, 4096)
                    if not piece:
                        break
                    received += piece
        finally:
            loop.remove_reader(ready_fd)
        if not received:
            raise await self._start_failure()
        return str(json.loads(received)["address"])

    async def _start_failure(self) -> Exception:
        status = await self._process.wait() if self._process else None
        if status == EXIT_NOT_INSTALLED:
            return ConfigError(
                "The embedded model needs the package xllamacpp.",
                param="upstream",
                remedy="Install it: pip install 'forethought[local]'.",
            )
        if status == EXIT_CANNOT_LOAD:
            return WeightsError(
                f"llama.cpp cannot load {self._weights} ({self._last_log_line()}).",
                param=str(self._weights),
                remedy="The file may be cut short or of an unknown kind; fetch it again.",
            )
        return UpstreamError(
            f"The embedded model ended with status {status} while starting.",
            param=self.name,
            remedy=f"See {self.log_path}.",
        )

    def _last_log_line(self) -> str:
        lines = self.log_path.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no output"

    async def _stop_child(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _in_openai_shape(reply: UpstreamReply) -> UpstreamReply:
    """Turn llama.cpp's own error bodies into OpenAI's, with the codes that clients look for."""
    if reply.status < httpx2.codes.BAD_REQUEST:
        return reply
    try:
        said = json.loads(reply.body)["error"]
        message, kind = str(said["message"]), str(said["type"])
    except (ValueError, KeyError, TypeError):
        return reply
    error = {"message": message, "type": kind, "param": None, "code": kind}
    if kind == "exceed_context_size_error":
        error = {
            "message": f"The messages are too long for this model: {message}",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        }
    return UpstreamReply(reply.status, reply.headers, json.dumps({"error": error}).encode())


async def _only(body: bytes) -> AsyncIterator[bytes]:
    yield body


def usable_processors() -> int:
    """Count the processors that this process may use, a container's quota included."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this platform
        allowed = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            allowed = min(allowed, max(1, int(quota) // int(period)))
    return allowed
