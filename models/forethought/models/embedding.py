"""Text embeddings, made offline and fast enough for the request path.

``WordLlamaEmbedder`` averages the static token vectors that ship inside the ``wordllama``
wheel (about 25 µs for a short question). ``HashEmbedder`` needs no files at all: tests use it,
and the router falls back on it when the vectors cannot be read.
"""

from __future__ import annotations

import importlib.util
import json
import re
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from forethought.models.errors import ForethoughtError

Embeddings = NDArray[np.float32]
"""Shape (n, dim), each row of length 1 (or 0 for a text without a single token)."""

_MAX_HEADER: Final = 1_000_000
_SHORT: Final = 1_000
"""Characters up to which a text, such as a query, is taken word by word."""
_WORDS: Final = 16_384
"""Words whose tokens are remembered, some 200 bytes each."""
_WEIGHTS: Final = Path("weights", "l2_supercat_256.safetensors")
_TOKENIZER: Final = Path("tokenizers", "l2_supercat_tokenizer_config.json")
_WORD: Final = re.compile(r"\w+")


class Embedder(Protocol):
    """Turns texts into vectors whose dot product is their cosine similarity."""

    @property
    def dim(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed each text; shape (n, dim), L2-normalised."""
        ...


@dataclass(frozen=True, slots=True)
class _WordLlamaParts:
    ids: Callable[[str], list[int]]
    word_ids: Callable[[str], list[int]]
    """The same for a word, remembered."""
    vectors: NDArray[np.float16]


class WordLlamaEmbedder:
    """Mean of WordLlama's 256-dimensional token vectors (MIT, <https://github.com/dleemiller/WordLlama>).

    The vectors and the tokenizer are read from the installed package on first use, or by
    ``load()``; nothing is ever downloaded. The package itself is not imported: importing it
    takes 0.8 s and reconfigures the root logger. Results equal ``WordLlama.load().embed(texts,
    norm=True)``. Safe to share between threads.
    """

    name: Final = "wordllama-l2-supercat-256"

    def __init__(self) -> None:
        self._parts: _WordLlamaParts | None = None
        self._lock = threading.Lock()

    @property
    def dim(self) -> int:
        return 256

    def load(self) -> WordLlamaEmbedder:
        """Read the vectors now (about 0.1 s) instead of in the first request."""
        self._loaded()
        return self

    def embed(self, texts: Sequence[str]) -> Embeddings:
        parts = self._loaded()
        pooled = np.zeros((len(texts), self.dim), dtype=np.float32)
        # One text at a time: encode_batch pads to the longest and starts a thread pool.
        for row, text in enumerate(texts):
            ids = _ids(text, parts)
            if ids:
                np.add.reduce(parts.vectors[ids], axis=0, dtype=np.float32, out=pooled[row])
        return _normalised(pooled)

    def _loaded(self) -> _WordLlamaParts:
        parts = self._parts
        if parts is None:
            with self._lock:
                parts = self._parts = self._parts or _read_wordllama(_wordllama_folder())
        return parts


class HashEmbedder:
    """Each lower-case word adds +1 or -1 at a place given by its CRC-32. Deterministic."""

    name: Final = "hash"

    def __init__(self, dim: int = 256) -> None:
        self._dim = dim

    @property
    def dim(self) -> int:
        return self._dim

    def embed(self, texts: Sequence[str]) -> Embeddings:
        counts = np.zeros((len(texts), self._dim), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in _WORD.findall(text.lower()):
                hashed = zlib.crc32(word.encode())
                counts[row, hashed % self._dim] += 1.0 if hashed & 0x8000_0000 else -1.0
        return _normalised(counts)


def _ids(text: str, parts: _WordLlamaParts) -> list[int]:
    """The text's tokens. No token of this vocabulary reaches over the space between two words
    into the second one, so the tokens of a text are those of its words, most of which came before.
    """
    words = text.split(" ")
    # Several spaces are one token; "<s>" and what the vocabulary writes for a space are special.
    if len(text) > _SHORT or "" in words or "<" in text or "▁" in text:
        return parts.ids(text)
    return list(chain.from_iterable(map(parts.word_ids, words)))


def _normalised(vectors: Embeddings) -> Embeddings:
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    lengths[lengths == 0.0] = 1.0
    vectors /= lengths[:, None]
    return vectors


def _wordllama_folder() -> Path:
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise ForethoughtError(
            "The package wordllama is not installed.",
            param="wordllama",
            remedy='Install the server extra: pip install "forethought[server]".',
        )
    return Path(spec.origin).parent


def _read_wordllama(folder: Path) -> _WordLlamaParts:
    from tokenizers import Tokenizer  # noqa: PLC0415 - only when first needed

    path = folder / _WEIGHTS
    try:
        vectors = _mapped(path, "embedding.weight")
        path = folder / _TOKENIZER
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise ForethoughtError(
            f"The embedding file {path} cannot be read: {error}.",
            param=str(path),
            remedy="Reinstall it: pip install --force-reinstall wordllama.",
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return found

    return _WordLlamaParts(ids=ids, word_ids=lru_cache(maxsize=_WORDS)(ids), vectors=vectors)


def _mapped(path: Path, name: str) -> NDArray[np.float16]:
    """A tensor of a safetensors file, left on the disk: a text needs a few rows of 32,000.

    The file begins with the length of its JSON header, which gives each tensor's type, shape and
    place after it (https://huggingface.co/docs/safetensors).
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MAX_HEADER:
            message = "it is no safetensors file"
            raise ValueError(message)
        found = json.loads(file.read(length))[name]
    if found["dtype"] != "F16":
        message = f"{name} has type {found['dtype']}, not F16"
        raise ValueError(message)
    first, last = found["data_offsets"]
    mapped = np.memmap(path, np.float16, "r", 8 + length + first, tuple(found["shape"]))
    vectors = mapped.view(np.ndarray)  # the same file, without the cost of a subclass
    if vectors.nbytes != last - first:
        message = f"{name} has {last - first} bytes, not {vectors.nbytes}"
        raise ValueError(message)
    return vectors
