"""The embedded model: a real one, in a real child process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from forethought.router import catalogue
from forethought.router.errors import UpstreamError, WeightsError
from forethought.router.upstream.llamacpp import EmbeddedUpstream

MODEL = "smollm2-135m"


@pytest.fixture
def weights() -> Path:
    return catalogue.fetch(MODEL)


@pytest.fixture
async def upstream(weights: Path, tmp_path: Path) -> AsyncIterator[EmbeddedUpstream]:
    embedded = EmbeddedUpstream(
        weights, alias=MODEL, n_ctx=1024, parallel=1, threads=1, log_path=tmp_path / "child.log"
    )
    await embedded.start()
    yield embedded
    await embedded.aclose()


def body(text: str = "Name a colour.", *, max_tokens: int = 4, **more: Any) -> dict[str, Any]:
    message = {"role": "user", "content": text}
    return {"messages": [message], "max_tokens": max_tokens, "temperature": 0, **more}


def is_gone(pid: int) -> bool:
    """Whether the process has ended (a zombie nobody reaped counts)."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


@pytest.mark.model
async def test_answers_plain_and_streamed_under_its_alias(upstream: EmbeddedUpstream) -> None:
    reply = await upstream.complete(body(), {})
    answer = json.loads(reply.body)
    assert reply.status == 200
    assert answer["model"] == MODEL
    assert answer["usage"]["completion_tokens"] == 4
    async with upstream.stream(body(stream=True), {}) as stream:
        raw = b"".join([chunk async for chunk in stream.chunks])
    assert raw.endswith(b"data: [DONE]\n\n")
    models = await upstream.models()
    assert [model["id"] for model in json.loads(models.body)["data"]] == [MODEL]
    assert b".gguf" not in models.body + reply.body + raw


@pytest.mark.model
async def test_too_long_a_prompt_is_an_error_in_openais_shape(upstream: EmbeddedUpstream) -> None:
    reply = await upstream.complete(body("word " * 2000), {})
    error = json.loads(reply.body)["error"]
    assert reply.status == 400
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    async with upstream.stream(body("word " * 2000, stream=True), {}) as stream:
        raw = b"".join([chunk async for chunk in stream.chunks])
    assert (stream.status, json.loads(raw)["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.model
async def test_leaving_a_stream_frees_the_model_for_the_next_request(
    upstream: EmbeddedUpstream,
) -> None:
    long = body("Tell a long story.", max_tokens=900, stream=True, ignore_eos=True)
    async with upstream.stream(long, {}) as stream:
        async for _ in stream.chunks:
            break
    started = time.monotonic()
    await upstream.complete(body(), {})
    assert time.monotonic() - started < 5  # 900 tokens take longer than that on one core


@pytest.mark.model
async def test_a_crashed_child_is_started_again_at_the_same_address(
    upstream: EmbeddedUpstream,
) -> None:
    address, crashed = upstream.base_url, upstream.pid
    assert crashed is not None
    os.kill(crashed, signal.SIGKILL)
    while await upstream.ready():  # noqa: ASYNC110 - another process's end is no event here
        await asyncio.sleep(0.01)
    reply = await upstream.complete(body(), {})
    assert reply.status == 200
    assert upstream.base_url == address
    assert upstream.restarts == 1
    assert upstream.pid != crashed


@pytest.mark.model
async def test_a_crash_in_mid_answer_is_an_upstream_error(upstream: EmbeddedUpstream) -> None:
    long = body("Tell a long story.", max_tokens=900, stream=True, ignore_eos=True)
    with pytest.raises(UpstreamError):  # noqa: PT012 - the stream breaks while it is read
        async with upstream.stream(long, {}) as stream:
            async for _ in stream.chunks:
                if upstream.pid is not None:
                    os.kill(upstream.pid, signal.SIGKILL)


@pytest.mark.model
async def test_closing_ends_the_child_and_refuses_requests(upstream: EmbeddedUpstream) -> None:
    pid = upstream.pid
    assert pid is not None
    await upstream.aclose()
    assert is_gone(pid)
    assert not await upstream.ready()
    with pytest.raises(UpstreamError, match="not started"):
        await upstream.complete(body(), {})


@pytest.mark.model
def test_the_child_dies_with_a_killed_parent(weights: Path, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import asyncio, pathlib, sys\n"
        "from forethought.router.upstream.llamacpp import EmbeddedUpstream\n"
        "async def main():\n"
        "    upstream = EmbeddedUpstream(\n"
        "        pathlib.Path(sys.argv[1]), alias='m', n_ctx=512, threads=1\n"
        "    )\n"
        "    await upstream.start()\n"
        "    print(upstream.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, str(script), str(weights)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not is_gone(child)
        parent.kill()
    deadline = time.monotonic() + 5
    while not is_gone(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert is_gone(child)


@pytest.mark.model
async def test_weights_cut_short_are_refused_by_name(weights: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with weights.open("rb") as whole:
        cut.write_bytes(whole.read(3_000_000))
    upstream = EmbeddedUpstream(cut, alias="cut", threads=1, log_path=tmp_path / "child.log")
    with pytest.raises(WeightsError, match=r"cut\.gguf") as caught:
        await upstream.start()
    assert caught.value.remedy
    await upstream.aclose()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="missing"),
        pytest.param(b"", id="empty"),
        pytest.param(b"PK\x03\x04" + bytes(2000), id="another-kind"),
        pytest.param(b"GGUF\x03\x00", id="magic-only"),
    ],
)
async def test_what_is_no_gguf_file_is_refused_before_any_process(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "weights.gguf"
    if content is not None:
        path.write_bytes(content)
    upstream = EmbeddedUpstream(path, alias="bad")
    with pytest.raises(WeightsError) as caught:
        await upstream.start()
    assert caught.value.param == str(path)
    assert upstream.pid is None
    await upstream.aclose()
