"""OpenAI's other endpoints: passed on as bytes, to the upstream and nowhere else."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from openai import NotFoundError

from forethought.router.upstream import Forwards
from forethought.router.upstream.llamacpp import EmbeddedUpstream
from tests.api.conftest import Serve
from tests.api.server import KEY, ApiServer
from tests.fake_anthropic import RESET, FakeAnthropic, Scripted

WAV = bytes(range(256)) * 4096


class Upstream:
    """Keeps what it is sent, and answers with it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.gone = threading.Event()
        handler = type("Handler", (_Handler,), {"upstream": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: Upstream

    def _any(self) -> None:
        body = self._read()
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.upstream.seen.append((self.command, self.path, headers, body))
        if self.path.endswith("/elsewhere"):
            self.send_response(302)
            self.send_header("location", "http://203.0.113.1/")
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.send_response(200)
        for name, value in {
            "content-type": headers.get("content-type", "application/octet-stream"),
            "content-disposition": 'attachment; filename="ü.bin"',
            "content-length": str(len(body)),
            "set-cookie": "theirs=1",
            "keep-alive": "timeout=5",
            "x-request-id": "req_theirs",
        }.items():
            self.send_header(name, value.encode("latin-1").decode("latin-1"))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = _any

    def _read(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in http.server
        pass


@pytest.fixture(scope="module")
def shared_upstream() -> Iterator[Upstream]:
    made = Upstream()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join(10)
    made.server.server_close()


@pytest.fixture(scope="module")
def forwarding(
    shared_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    with ApiServer(
        tmp_path_factory.mktemp("forwarding"),
        upstream_base_url=shared_upstream.url,
        upstream_api_key="sk-ours",
        upstream_paths=("audio", "files", "images"),
        model="fake",
    ) as server:
        yield server


@pytest.fixture
def upstream(shared_upstream: Upstream) -> Upstream:
    shared_upstream.seen.clear()
    return shared_upstream


@pytest.fixture
def server(forwarding: ApiServer, upstream: Upstream) -> ApiServer:
    return forwarding


def test_a_multipart_form_arrives_as_it_was_sent(server: ApiServer, upstream: Upstream) -> None:
    made = server.openai.audio.transcriptions.with_raw_response.create(
        model="whisper-1", file=("ü.wav", WAV), extra_headers={"x-custom": "1", "cookie": "c=1"}
    )
    method, path, headers, body = upstream.seen[-1]
    assert (method, path) == ("POST", "/v1/audio/transcriptions")
    assert headers["content-type"].startswith("multipart/form-data; boundary=")
    assert WAV in body
    assert made.content == body
    assert headers["authorization"] == "Bearer sk-ours"
    assert headers["x-custom"] == "1"
    assert KEY not in str(headers)
    assert "cookie" not in headers


def test_what_is_about_a_connection_stays_there(server: ApiServer) -> None:
    reply = server.http.post("/v1/images/edits", content=b"x", headers={"content-type": "a/b"})
    assert reply.content == b"x"
    assert reply.headers["content-type"] == "a/b"
    assert reply.headers["x-request-id"] == "req_theirs"
    assert "filename" in reply.headers["content-disposition"]
    assert "set-cookie" not in reply.headers
    assert "keep-alive" not in reply.headers


def test_a_body_of_unknown_length_is_sent_in_chunks(server: ApiServer, upstream: Upstream) -> None:
    parts = (WAV[i : i + 10_000] for i in range(0, len(WAV), 10_000))
    reply = server.http.post("/v1/files", content=parts)
    *_, headers, body = upstream.seen[-1]
    assert headers["transfer-encoding"] == "chunked"
    assert hashlib.sha256(body).digest() == hashlib.sha256(WAV).digest()
    assert reply.content == WAV


def test_queries_and_other_methods_pass(server: ApiServer, upstream: Upstream) -> None:
    server.http.get("/v1/files?purpose=fine%2Dtune&after=f%20%26")
    server.http.delete("/v1/files/file-abc_1.x")
    assert [seen[:2] for seen in upstream.seen] == [
        ("GET", "/v1/files?purpose=fine%2Dtune&after=f%20%26"),
        ("DELETE", "/v1/files/file-abc_1.x"),
    ]
    assert "transfer-encoding" not in upstream.seen[0][2]


def test_a_redirection_is_the_clients_to_follow(server: ApiServer) -> None:
    reply = server.http.get("/v1/files/elsewhere", follow_redirects=False)
    assert (reply.status_code, reply.headers["location"]) == (302, "http://203.0.113.1/")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/../chat/completions",
        "/v1/files/%2e%2e/models",
        "/v1/files/..%2f..%2fadmin",
        "/v1/files//evil.example/x",
        "/v1/files/a%3fb=c",
        "/v1/files/a%23b",
        "/v1/files/a%5c..%5cb",
        "/v1/files/@evil.example",
        "/v1/files/a%0d%0ax:y",
        "/v1/files/.hidden",
    ],
)
def test_no_path_leads_elsewhere(server: ApiServer, upstream: Upstream, path: str) -> None:
    reply = raw_get(server, path)
    assert b" 404 " in reply.split(b"\r\n")[0] or b" 405 " in reply.split(b"\r\n")[0]
    assert upstream.seen == []


def raw_get(server: ApiServer, path: str) -> bytes:
    """What the server says to a path that no client library would send as it is."""
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        asked = f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        connection.sendall(asked.encode())
        said = b""
        while part := connection.recv(65536):
            said += part
    return said


def test_a_path_that_is_not_set_says_how_to(server: ApiServer, upstream: Upstream) -> None:
    with pytest.raises(NotFoundError, match="Add 'batches' to the setting upstream_paths"):
        server.openai.batches.list()
    assert server.http.get("/v1/nothing/at/all").status_code == 404
    assert upstream.seen == []


def test_a_key_is_needed(serve: Serve, upstream: Upstream) -> None:
    server = serve(upstream_base_url=upstream.url, api_keys={"sk-right": "t"})
    wrong = {"authorization": "Bearer wrong"}
    assert server.http.post("/v1/audio/speech", content=b"{}", headers=wrong).status_code == 401
    assert upstream.seen == []


def test_an_upstream_without_such_endpoints_is_a_404(serve: Serve) -> None:
    server = serve(upstream_api="anthropic")
    with pytest.raises(NotFoundError, match="upstream anthropic has no endpoint /moderations"):
        server.openai.moderations.create(input="x")


def test_the_embedded_model_has_no_such_endpoints() -> None:
    assert not isinstance(EmbeddedUpstream(Path("x.gguf"), alias="x"), Forwards)


def test_a_body_above_the_limit_is_refused(serve: Serve, upstream: Upstream) -> None:
    server = serve(upstream_base_url=upstream.url, max_body_bytes=1000)
    for content in (WAV, iter([WAV])):
        reply = server.http.post("/v1/audio/transcriptions", content=content)
        assert reply.status_code == 400
        assert "max_body_bytes" in reply.json()["error"]["message"]


def test_an_upstream_that_is_away_is_a_502(serve: Serve) -> None:
    server = serve(upstream_base_url="http://127.0.0.1:9/v1")
    reply = server.http.post("/v1/audio/speech", content=b"{}")
    assert reply.status_code == 502
    assert reply.json()["error"]["code"] == "upstream_unreachable"


def test_bytes_come_as_they_are_made_and_metrics_count_them(serve: Serve) -> None:
    with FakeAnthropic() as fake:
        server = serve(upstream_base_url=f"{fake.url}/v1")
        fake.replies.append(
            Scripted((b"RIFF", 0.5, b"data"), headers={"content-type": "audio/wav"})
        )
        with server.http.stream("POST", "/v1/audio/speech", content=b"{}") as reply:
            began = time.monotonic()
            pieces = reply.iter_raw()
            assert next(pieces) == b"RIFF"
            assert time.monotonic() - began < 0.4
            assert b"".join(pieces) == b"data"
        counted = (
            'forethought_requests_total{route="/v1/audio/{path:path}",status="200",strategy=""}'
        )
        assert f"{counted} 1.0" in server.http.get("/metrics").text


@pytest.mark.parametrize("events", [True, False], ids=["events", "bytes"])
def test_a_reply_that_breaks_off_does_so_for_the_client(serve: Serve, events: bool) -> None:
    kind = "text/event-stream" if events else "audio/wav"
    with FakeAnthropic() as fake:
        server = serve(upstream_base_url=f"{fake.url}/v1")
        fake.replies.append(Scripted((b"data: {}\n\n", 0.2, RESET), headers={"content-type": kind}))
        if events:
            said = server.http.post("/v1/audio/speech", content=b"{}").text
            assert '"code": "upstream_unreachable"' in said.split("\n\n")[1]
        else:
            with pytest.raises(Exception, match="peer closed connection"):
                server.http.post("/v1/audio/speech", content=b"{}")


def test_a_client_that_hangs_up_ends_the_call(serve: Serve) -> None:
    with FakeAnthropic() as fake:
        server = serve(upstream_base_url=f"{fake.url}/v1")
        drip: list[bytes | float] = [0.05, b"x" * 65536]
        fake.replies.append(Scripted((b"RIFF", *(drip * 400))))
        with server.http.stream("POST", "/v1/audio/speech", content=b"{}") as reply:
            next(reply.iter_raw())
        deadline = time.monotonic() + 10
        while fake.hung_up == 0:
            assert time.monotonic() < deadline, "the upstream was not told"
            time.sleep(0.02)
