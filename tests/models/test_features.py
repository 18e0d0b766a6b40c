from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.models.embedding import Embeddings, HashEmbedder, WordLlamaEmbedder
from forethought.models.features import (
    ARTEFACT_FEATURES,
    CONTEXT_FEATURES,
    DECISION_FEATURES,
    FEATURE_NAMES,
    FEATURES,
    ArtefactFacts,
    Feature,
    FeatureExtractor,
    HistoryFacts,
    RequestFacts,
    matrix,
    strategy_features,
)
from forethought.models.history import REMEMBERED

MATHS = "Tom buys 3 pens at $2 each. Twice as many pencils cost 50% less."
STORY = "Once upon a time a king lived in a castle. “Who is there?” asked the princess."
TABLE = "| | 2019 | 2018 |\n| Revenue | £24.9m | £25.4m |"
CODE = "def add(a, b):\n    return a + b;\nfunction f() { g(); }"
DIRECT, LEARNED = "direct", "learned:low"

EXTRACTOR = FeatureExtractor(HashEmbedder(64))
NO_HISTORY, REQUEST = HistoryFacts(), RequestFacts()


def facts(*questions: str) -> ArtefactFacts:
    return ArtefactFacts(
        n_notes=4,
        n_questions=len(questions),
        mean_confidence=0.5,
        verified_share=0.25,
        tokens=90,
        questions=questions,
    )


def decide(
    query: str, *, context: str | None = None, questions: Iterable[str] = ()
) -> dict[str, float]:
    vector = None if context is None else EXTRACTOR.context(context)
    artefact = facts(*questions) if questions else None
    return EXTRACTOR.decision(vector, query, artefact, NO_HISTORY, REQUEST)


@pytest.mark.parametrize(
    ("text", "feature", "value"),
    [
        pytest.param(MATHS, "ctx_sentences", 2, id="sentences"),
        pytest.param(MATHS, "ctx_numbers", 3, id="numbers"),
        pytest.param(MATHS, "ctx_number_words", 1, id="number-words"),
        pytest.param(MATHS, "ctx_money", 1, id="money"),
        pytest.param(MATHS, "ctx_percent", 1, id="percent"),
        pytest.param("1,200 and 1,200 and 2.5", "ctx_distinct_numbers", 2, id="distinct"),
        pytest.param(STORY, "ctx_quotes", 2, id="quotes"),
        pytest.param(STORY, "ctx_questions", 1, id="question-marks"),
        pytest.param(TABLE, "ctx_pipes", 4, id="table"),
        pytest.param("Ada met Bob", "ctx_capitalised", 2 / 3, id="capitalised"),
        pytest.param("", "ctx_number_density", 0, id="empty"),
    ],
)
def test_context_measures(text: str, feature: str, value: float) -> None:
    assert EXTRACTOR.context(text).features[feature] == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "anchor"),
    [
        pytest.param(MATHS, "maths", id="maths"),
        pytest.param(STORY, "story", id="story"),
        pytest.param(CODE, "code", id="code"),
        pytest.param("Total revenue and deferred income tax in 2019", "finance", id="finance"),
    ],
)
def test_a_context_is_most_like_its_own_kind(text: str, anchor: str) -> None:
    values = FeatureExtractor(WordLlamaEmbedder()).context(text).features
    likeness = {name: value for name, value in values.items() if name.startswith("ctx_like_")}
    assert max(likeness, key=likeness.__getitem__) == f"ctx_like_{anchor}"


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        pytest.param("How many are left?", "q_how_many", id="how-many"),
        pytest.param("In total, how much did it cost?", "q_how_many", id="how-much"),
        pytest.param("Which one?", "q_what", id="which"),
        pytest.param("Whose hat is it?", "q_who", id="whose"),
        pytest.param("Why?", "q_why", id="why"),
        pytest.param("How did he do it?", "q_how", id="how"),
        pytest.param("Where were they?", "q_when_where", id="where"),
        pytest.param("Summarise it.", "q_other", id="other"),
    ],
)
def test_exactly_one_question_kind_is_set(query: str, kind: str) -> None:
    kinds = {
        name: value
        for name, value in decide(query).items()
        if name in {"q_how_many", "q_what", "q_who", "q_why", "q_how", "q_when_where", "q_other"}
    }
    assert [name for name, value in kinds.items() if value] == [kind]


def test_overlap_counts_content_words_of_the_query() -> None:
    values = decide("What do the pens and rulers cost?", context=MATHS)
    assert values["q_context_overlap"] == pytest.approx(2 / 3)


def test_an_anticipated_question_is_recognised() -> None:
    query = "What do the pens cost?"
    values = decide(query, context=MATHS, questions=("Who is Tom?", query))
    assert values["art_similarity_max"] == pytest.approx(1, abs=1e-6)
    assert values["art_similarity_top3"] < 1


def test_facts_and_their_cached_vector_give_the_same() -> None:
    known, context = facts("Who?", "How many?"), EXTRACTOR.context(STORY)
    from_facts = EXTRACTOR.decision(context, "Who?", known, NO_HISTORY, REQUEST)
    vector = EXTRACTOR.artefact(known)
    assert from_facts == EXTRACTOR.decision(context, "Who?", vector, NO_HISTORY, REQUEST)


def test_a_query_is_embedded_once_for_its_decision_and_for_the_history() -> None:
    embedded: list[str] = []

    class Counting(HashEmbedder):
        def embed(self, texts: Sequence[str]) -> Embeddings:
            embedded.extend(texts)
            return super().embed(texts)

    extractor = FeatureExtractor(Counting(64))
    extractor.decision(None, "Why?", None, NO_HISTORY, REQUEST)
    vector = extractor.query_embedding("Why?")
    assert embedded == ["Why?"]
    assert np.array_equal(vector, HashEmbedder(64).embed(["Why?"])[0])


def test_what_does_not_apply_is_nan() -> None:
    values = decide("Hello")
    missing = {name for name, value in values.items() if math.isnan(value)}
    assert missing == {
        *(feature.name for feature in CONTEXT_FEATURES + ARTEFACT_FEATURES),
        "q_context_cosine",
        "q_context_overlap",
        "q_past_similarity",
        "q_surprisal",
        "req_max_tokens",
        "hist_since_last_s",
        *REMEMBERED,
    }


@given(
    context=st.text(max_size=200),
    query=st.text(max_size=80),
    age_s=st.floats(allow_nan=False),
    n_queries=st.integers(min_value=0),
)
def test_every_value_is_a_float_in_its_range_or_nan(
    context: str, query: str, age_s: float, n_queries: int
) -> None:
    history = HistoryFacts(n_queries=n_queries, age_s=age_s, seconds_since_last=age_s)
    request = RequestFacts(max_tokens=5, n_messages=2, stream=True)
    values = EXTRACTOR.decision(EXTRACTOR.context(context), query, facts(query), history, request)
    assert list(values) == [feature.name for feature in DECISION_FEATURES]
    assert all(_in_range(feature, values[feature.name]) for feature in DECISION_FEATURES)


def _in_range(feature: Feature, value: float) -> bool:
    slack = 1e-6  # float32 cosines
    return type(value) is float and (
        math.isnan(value) or feature.low - slack <= value <= feature.high + slack
    )


def test_feature_names_are_unique() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURES)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        pytest.param("direct", (1, 0, 0), id="direct"),
        pytest.param("effort:low", (0, 1, 0), id="effort-low"),
        pytest.param("effort:high", (0, 2, 0), id="effort-high"),
        pytest.param("learned:low", (0, 1, 1), id="learned-low"),
        pytest.param("learned:high", (0, 2, 1), id="learned-high"),
    ],
)
def test_strategy_features(name: str, values: tuple[float, ...]) -> None:
    assert tuple(strategy_features(name).values()) == values


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(ValueError, match="'guess'"):
        strategy_features("guess")


def test_matrix_keeps_the_order_of_rows_and_features() -> None:
    one, two = decide("Who?", context=STORY, questions=["Why?"]), decide("Why?", context=MATHS)
    inputs = matrix([one, two, one], [LEARNED, DIRECT, LEARNED])
    expected = [{**row, **strategy_features(name)} for row, name in ((one, LEARNED), (two, DIRECT))]
    np.testing.assert_array_equal(inputs[:2], [[row[f] for f in FEATURE_NAMES] for row in expected])
    np.testing.assert_array_equal(inputs[0], inputs[2])


def test_a_strategy_that_does_not_read_the_learned_context_does_not_see_it() -> None:
    row = decide("Why?", context=STORY, questions=["Why?"])
    inputs = matrix([row, row], [DIRECT, LEARNED])
    column = FEATURE_NAMES.index("art_confidence")
    assert math.isnan(inputs[0, column])
    assert inputs[1, column] == 0.5


def test_matrix_of_nothing_has_no_rows_and_mismatches_are_refused() -> None:
    assert matrix([], []).shape == (0, len(FEATURES))
    with pytest.raises(ValueError, match="1 rows but 2"):
        matrix([{}], [DIRECT, DIRECT])
