from __future__ import annotations

import subprocess
import sys
import threading
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from forethought.models import embedding
from forethought.models.embedding import Embedder, HashEmbedder, WordLlamaEmbedder
from forethought.models.errors import ForethoughtError

EMBEDDERS = [
    pytest.param(WordLlamaEmbedder(), id="wordllama"),
    pytest.param(HashEmbedder(64), id="hash"),
]


@pytest.mark.parametrize("embedder", EMBEDDERS)
def test_vectors_have_length_one_and_empty_texts_length_zero(embedder: Embedder) -> None:
    vectors = embedder.embed(["How many apples are left?", "", "Ünïcode ☃ 12,5"])
    assert vectors.shape == (3, embedder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1], atol=1e-6)


@pytest.mark.parametrize("embedder", EMBEDDERS)
def test_no_texts_give_an_empty_matrix(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.dim)


def test_related_questions_are_nearer_than_unrelated_ones() -> None:
    question, same, other = WordLlamaEmbedder().embed(
        ["How much did she pay?", "What was the price she paid?", "Why was the fox afraid?"]
    )
    assert question @ same > question @ other + 0.2


def test_wordllama_vectors_equal_the_library_s_own() -> None:
    # In a process of its own: importing wordllama reconfigures the root logger.
    script = """
import numpy as np, wordllama, pathlib
from forethought.models.embedding import WordLlamaEmbedder
texts = ["How many apples?", "12,345 dollars in Zürich", "a " * 2000]
folder = pathlib.Path(wordllama.__file__).parent
theirs = wordllama.WordLlama.load(cache_dir=folder, disable_download=True).embed(texts, norm=True)
np.testing.assert_allclose(WordLlamaEmbedder().embed(texts), theirs, atol=1e-6)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=50)


def test_threads_share_one_load(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Path] = []
    read = embedding._read_wordllama

    def counting(folder: Path) -> embedding._WordLlamaParts:
        loads.append(folder)
        return read(folder)

    monkeypatch.setattr(embedding, "_read_wordllama", counting)
    embedder = WordLlamaEmbedder()
    threads = [threading.Thread(target=embedder.embed, args=(["hello"],)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1


@pytest.mark.parametrize(
    "content", [pytest.param(None, id="missing"), pytest.param(b"not weights", id="corrupt")]
)
def test_unreadable_weights_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    weights = tmp_path / "weights" / "l2_supercat_256.safetensors"
    if content is not None:
        weights.parent.mkdir()
        weights.write_bytes(content)
    monkeypatch.setattr(embedding, "_wordllama_folder", lambda: tmp_path)
    with pytest.raises(ForethoughtError, match="Reinstall") as caught:
        WordLlamaEmbedder().load()
    assert caught.value.param == str(weights)


WORDLLAMA = WordLlamaEmbedder().load()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    found = Tokenizer.from_file(str(embedding._wordllama_folder() / embedding._TOKENIZER))
    found.no_padding()
    found.no_truncation()
    return found


# What could part words otherwise than at a space: special tokens, spaces by another name or number.
PIECES = st.sampled_from(
    ["How", "many", "eggs?", " ", "  ", "\u2581", "<s>", "<0x0A>", "\n", "é", "🙂"]
)


@given(st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=12).map("".join)))
def test_a_text_taken_word_by_word_has_the_tokens_of_the_whole(text: str) -> None:
    parts = WORDLLAMA._loaded()
    ids, words = parts.ids(text), embedding._words(text)
    assert words is None or list(chain.from_iterable(map(parts.word_ids, words))) == ids
    assert np.array_equal(embedding._vectors(text, parts), parts.vectors[np.array(ids, int)])


def test_vectors_of_words_are_remembered_while_there_is_room() -> None:
    parts, texts = WORDLLAMA._loaded(), [f"word{i} number{i}" for i in range(4_000)]
    for text in texts:
        found = embedding._vectors(text, parts)
        assert found.dtype == np.float32
        assert np.array_equal(found, parts.vectors[parts.ids(text)])
        assert sum(map(len, parts.word_vectors.values())) <= embedding._WIDENED


@pytest.mark.parametrize("text", ["吾輩は猫である。" * 4, "a " + "b" * 25])
def test_words_too_long_to_come_again_are_not_remembered(text: str) -> None:
    parts = WORDLLAMA._loaded()
    before = len(parts.word_vectors)
    assert np.array_equal(embedding._vectors(text, parts), parts.vectors[parts.ids(text)])
    assert len(parts.word_vectors) == before


def test_no_token_reaches_over_the_space_before_a_word(tokenizer: Tokenizer) -> None:
    words = tokenizer.get_vocab(with_added_tokens=False)
    assert len(words) > 30_000
    assert [word for word in words if "\u2581" in word.lstrip("\u2581")] == []
