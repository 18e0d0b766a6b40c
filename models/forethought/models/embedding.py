"""Text embeddings, made offline and fast enough for the request path.

``WordLlamaEmbedder`` averages the static token vectors that ship inside the ``wordllama``
wheel (about 25 µs for a short question). ``HashEmbedder`` needs no files at all: tests use it,
and the router falls back on it when the vectors cannot be read.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
_LONGEST: Final = 24
"""Characters of a word at most: what is longer, such as a sentence of a language that is written
without spaces, hardly comes again, and would take much memory."""
_WORDS: Final = 16_384
"""Words whose tokens are remembered, some 200 bytes each."""
_WIDENED: Final = 8_192
"""Tokens of words whose vectors are remembered, 1 kB each."""
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
    word_vectors: _WordVectors


class _WordVectors(dict[str, Embeddings]):
    """The vectors of a word's tokens, (n, dim), widened: numpy does that number by number.

    Found by ``[word]``, and remembered while there is room; then all are forgotten.
    """

    def __init__(self, vectors: NDArray[np.float16], word_ids: Callable[[str], list[int]]) -> None:
        super().__init__()
        self._vectors = vectors
        self._word_ids = word_ids
        self._n_tokens = 0

    def __missing__(self, word: str) -> Embeddings:
        ids = np.array(self._word_ids(word), np.intp)
        if self._n_tokens + len(ids) > _WIDENED:
            self.clear()
            self._n_tokens = 0
        self._n_tokens += len(ids)
        found = self[word] = self._vectors.take(ids, axis=0).astype(np.float32)
        return found


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
        for text, row in zip(texts, pooled, strict=True):
            np.add.reduce(_vectors(text, parts), axis=0, dtype=np.float32, out=row)
            _normalise(row)
        return pooled

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
            _normalise(counts[row])
        return counts


def _vectors(text: str, parts: _WordLlamaParts) -> NDArray[np.float16] | Embeddings:
    """The vectors of the text's tokens, (n, dim)."""
    words = _words(text)
    if words is None:
        return parts.vectors.take(np.array(parts.ids(text), np.intp), axis=0)
    return np.concatenate([parts.word_vectors[word] for word in words])


def _words(text: str) -> list[str] | None:
    """The words whose tokens are those of the text; None where it is to be taken whole.

    No token of this vocabulary reaches over the space between two words into the second one. Most
    words came before.
    """
    words = text.split(" ")
    # Several spaces are one token; "<s>" and what the vocabulary writes for a space are special.
    if len(text) > _SHORT or "" in words or "<" in text or "▁" in text:
        return None
    return None if max(map(len, words)) > _LONGEST else words


def _normalise(vector: NDArray[np.float32]) -> None:
    """Give a vector (dim,) the length 1 in place, unless it is 0."""
    length = math.sqrt(np.einsum("i,i", vector, vector))
    if length:
        vector /= length


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

    word_ids = lru_cache(maxsize=_WORDS)(ids)
    return _WordLlamaParts(ids, word_ids, vectors, _WordVectors(vectors, word_ids))


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
