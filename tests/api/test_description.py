"""The server's own OpenAPI description, and what schemathesis makes of it: requests that fit it and
requests that do not. None may be answered by a fault of ours, and each error has its shape.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.api.server import ApiServer
from tests.fake_anthropic import FakeAnthropic, Scripted, ended, message, started, text
from tests.fake_upstream import Body, FakeUpstreamServer, Send

JSON: Final = {"content-type": "application/json"}
SSE: Final = {"content-type": "text/event-stream"}


class Tolerant(FakeUpstreamServer):
    """An upstream that answers whatever it is asked, so that each fault is the server's."""

    async def _reply(self, path: str, body: Body, asked: Any, send: Send) -> None:
        plain = {"model": "fake", "messages": [{"role": "user", "content": "x"}], "prompt": "x"}
        flags = {name: body[name] for name in ("stream",) if body.get(name) is True}
        await super()._reply(path, {**plain, "input": "x", **flags}, {}, send)


class TolerantAnthropic(FakeAnthropic):
    """The same in Anthropic's language."""

    def reply(self) -> Scripted:
        if self.requests[-1].path.endswith("/models"):
            return Scripted((b'{"data": []}',), headers=JSON)
        if self.requests[-1].body.get("stream"):
            return Scripted((started() + text("x") + ended(),), headers=SSE)
        said = json.dumps(message({"type": "text", "text": "x"})).encode()
        return Scripted((said,), headers=JSON)


@pytest.fixture(scope="module", params=["openai", "anthropic"])
def described(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    folder = tmp_path_factory.mktemp("described")
    with ExitStack() as stack:
        if request.param == "openai":
            url = stack.enter_context(Tolerant()).base_url
        else:
            url = stack.enter_context(TolerantAnthropic()).url
        settings = {"upstream_base_url": url, "upstream_api": request.param, "model": "fake"}
        yield stack.enter_context(ApiServer(folder, **settings))


def test_every_route_that_reads_a_body_says_what_it_takes(described: ApiServer) -> None:
    said = described.http.get("/openapi.json").json()
    without = [
        path
        for path, operations in said["paths"].items()
        if "post" in operations and "requestBody" not in operations["post"]
    ]
    assert without == ["/v1/responses/{path}"]
    ids = [one["operationId"] for path in said["paths"].values() for one in path.values()]
    assert len(ids) == len(set(ids))


def fuzzed(server: ApiServer, folder: Path, *, examples: int) -> subprocess.CompletedProcess[str]:
    """Run schemathesis against a server, as from its command line."""
    context = server.client.contexts.create(text="Janet's ducks lay 16 eggs a day.")
    reply = server.chat({"messages": [{"role": "user", "content": "Hello"}]})
    config = folder / "schemathesis.toml"
    config.write_text(
        f'[parameters]\ncontext_id = "{context.id}"\n'
        f'decision_id = "{reply.headers["x-forethought-decision"]}"\n'
    )
    checks = "not_a_server_error,status_code_conformance,response_schema_conformance"
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config),
            "run", f"{server.url}/openapi.json", "--phases", "coverage,fuzzing",
            "--checks", checks, "--max-examples", str(examples), "--seed", "1", "--no-color",
            "-H", "authorization: Bearer test-key",
        ],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_request_makes_the_server_fail(
    described: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ran = fuzzed(described, tmp_path, examples=15)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-1000:]
    assert "Tested: " in ran.stdout
    faults = [one.getMessage() for one in caplog.records if one.exc_info]
    assert faults == []
