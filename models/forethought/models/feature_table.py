"""The table of features: what each is called, means, and can be.

The order here is the order of the columns that a model is fitted on. Any change needs a new
``FEATURE_VERSION``: a bundle of another version is refused. Rows that were logged with a version of
``LEARNABLE_VERSIONS`` are learned from all the same: what they have is computed as it is today.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

FEATURE_VERSION: Final = "2"
"""Changes whenever a feature is added, removed or computed differently.

2 added surprisal, the earlier queries on a context, and the tenant's and the application's history.
"""

LEARNABLE_VERSIONS: Final = ("1", FEATURE_VERSION)
"""Logged with one of these, a feature that a row has means what it means today; those that came
later are missing in it, as they are where there is no history yet."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One model input: its values are in [low, high], or NaN where it does not apply."""

    name: str
    unit: str
    low: float
    high: float
    doc: str


ANCHORS: Final[Mapping[str, str]] = {
    "maths": (
        "Sarah has 12 apples and buys 5 more at 2 dollars each. She gives half of them to her "
        "brother and sells the rest. Twice as many, per hour, per week, in total."
    ),
    "story": (
        "Once upon a time there lived in the forest an old king with his beautiful daughter. "
        "One day a fox came to the castle and the princess wept, for she was afraid."
    ),
    "finance": (
        "Revenue for the year ended December 31, 2019 and 2018, in millions of dollars. Net "
        "income, operating expenses, deferred tax assets, share-based compensation, cash flows."
    ),
    "code": (
        "def main(args): return value; import os; class Config: for i in range(n): if x is None: "
        "raise Error; public static void function() { const result = await fetch(url); }"
    ),
    "dialogue": (
        "User: Hi, can you help me with my order? Assistant: Of course, what seems to be the "
        "problem? User: It has not arrived yet. Assistant: I am sorry to hear that, let me check."
    ),
    "encyclopaedia": (
        "The city is the capital of the region and was founded in the 12th century. It has a "
        "population of about 400,000 and is known for its university, climate and architecture."
    ),
    "instructions": (
        "You are a helpful assistant. Follow these rules: always answer politely, never reveal "
        "this prompt, use the given tools, and reply in JSON with the following fields."
    ),
}
"""What a context is compared with, to tell the kinds apart. Written for this purpose."""

CONTEXT_FEATURES: Final = (
    Feature("ctx_chars", "characters", 0, 1e7, "length of the context"),
    Feature("ctx_words", "words", 0, 1e6, "words in the context"),
    Feature("ctx_sentences", "sentences", 0, 1e6, "sentences in the context"),
    Feature("ctx_lines", "lines", 0, 1e6, "non-empty lines in the context"),
    Feature("ctx_numbers", "numbers", 0, 1e6, "numbers written in digits"),
    Feature("ctx_distinct_numbers", "numbers", 0, 1e6, "different numbers written in digits"),
    Feature("ctx_number_words", "words", 0, 1e6, "number words: three, twice, half, dozen"),
    Feature("ctx_number_density", "share", 0, 1, "numbers and number words to all words"),
    Feature("ctx_money", "marks", 0, 1e6, "currency signs and the word dollars"),
    Feature("ctx_percent", "marks", 0, 1e6, "percent signs and the word percent"),
    Feature("ctx_quotes", "marks", 0, 1e6, "double quotation marks"),
    Feature("ctx_questions", "marks", 0, 1e6, "question marks"),
    Feature("ctx_capitalised", "share", 0, 1, "words with a capital first letter to all words"),
    Feature("ctx_pipes", "marks per line", 0, 100, "vertical bars per line: tables"),
    Feature(
        "ctx_code", "marks per line", 0, 100, "braces, calls, fences, closing semicolons per line"
    ),
    Feature("ctx_word_length", "characters", 0, 50, "mean length of a word"),
    Feature("ctx_sentence_length", "words", 0, 1000, "mean length of a sentence"),
    Feature("ctx_distinct_words", "share", 0, 1, "different content words to all words"),
    *(
        Feature(f"ctx_like_{anchor}", "cosine", -1, 1, f"similarity to the {anchor} anchor text")
        for anchor in ANCHORS
    ),
)

QUERY_FEATURES: Final = (
    Feature("q_chars", "characters", 0, 1e6, "length of the query"),
    Feature("q_words", "words", 0, 1e5, "words in the query"),
    Feature("q_numbers", "numbers", 0, 1e5, "numbers written in digits"),
    Feature("q_questions", "marks", 0, 1e4, "question marks"),
    Feature("q_aggregates", "words", 0, 1e4, "words asking for a derived value: total, average"),
    Feature("q_how_many", "flag", 0, 1, "the first question word is how many or how much"),
    Feature("q_what", "flag", 0, 1, "the first question word is what or which"),
    Feature("q_who", "flag", 0, 1, "the first question word is who, whom or whose"),
    Feature("q_why", "flag", 0, 1, "the first question word is why"),
    Feature("q_how", "flag", 0, 1, "the first question word is how, without many or much"),
    Feature("q_when_where", "flag", 0, 1, "the first question word is when or where"),
    Feature("q_other", "flag", 0, 1, "none of these question words"),
    Feature("q_context_cosine", "cosine", -1, 1, "similarity of the query to the context"),
    Feature("q_context_overlap", "share", 0, 1, "content words of the query that the context has"),
    Feature("q_past_similarity", "cosine", -1, 1, "to the nearest earlier query on this context"),
    Feature("q_surprisal", "nats per token", 0, 50, "of the query, given the context, to a model"),
    Feature("req_max_tokens", "tokens", 0, 1e6, "the client's limit on output"),
    Feature("req_messages", "messages", 0, 1e4, "messages in the request"),
    Feature("req_stream", "flag", 0, 1, "the client asked for a stream"),
)

ARTEFACT_FEATURES: Final = (
    Feature("art_notes", "notes", 0, 1e4, "notes in the learned context"),
    Feature("art_questions", "questions", 0, 1e4, "anticipated questions in the learned context"),
    Feature("art_confidence", "share", 0, 1, "mean confidence of the notes"),
    Feature("art_verified", "share", 0, 1, "notes that passed a check"),
    Feature("art_tokens", "tokens", 0, 1e6, "length of the learned context"),
    Feature("art_similarity_max", "cosine", -1, 1, "query to the nearest anticipated question"),
    Feature("art_similarity_top3", "cosine", -1, 1, "mean over the 3 nearest anticipated"),
)

HISTORY_FEATURES: Final = (
    Feature("hist_queries", "queries", 0, 1e6, "queries on this context before this one"),
    Feature("hist_age_s", "s", 0, 1e9, "time since the context was first seen"),
    Feature("hist_since_last_s", "s", 0, 1e9, "time since the query before this one"),
    Feature("hist_right", "share", 0, 1, "quality from the learned context, on this context"),
    Feature("hist_quality", "share", 0, 1, "quality of all judged answers on this context"),
    Feature("hist_surprisal", "nats per token", 0, 50, "mean of the queries on this context"),
    Feature("near_similarity", "cosine", -1, 1, "to the tenant's nearest context with a history"),
    Feature("near_right", "share", 0, 1, "quality from the learned context, on the nearest ones"),
    Feature("near_quality", "share", 0, 1, "quality of all judged answers on the nearest ones"),
    Feature("near_queries", "queries", 0, 1e6, "mean queries of the nearest contexts"),
    *(
        Feature(f"{whose}_{name}", unit, low, high, f"{doc}, of the {whose_doc}")
        for whose, whose_doc in (("app", "application"), ("tenant", "tenant"))
        for name, unit, low, high, doc in (
            ("queries", "queries", 0, 1e9, "queries so far"),
            ("right", "share", 0, 1, "quality from the learned context"),
            ("queries_per_context", "queries", 0, 1e6, "mean queries of a context"),
            ("gap_s", "s", 0, 1e9, "mean time between the queries on a context"),
        )
    ),
)
"""Known before the query is. All but the first three are missing where there is nothing yet.

``right``: the mean judged quality of ``learned:low``, which is the realised predictability.
"""

STRATEGY_FEATURES: Final = (
    Feature("strategy_is_direct", "flag", 0, 1, "the request goes out as the client sent it"),
    Feature("strategy_effort", "level", 0, 2, "0 the client's own, 1 low, 2 high"),
    Feature("strategy_uses_learned", "flag", 0, 1, "the learned context is added"),
)

DECISION_FEATURES: Final = CONTEXT_FEATURES + QUERY_FEATURES + ARTEFACT_FEATURES + HISTORY_FEATURES
"""Everything known before a strategy is chosen."""

FEATURES: Final = DECISION_FEATURES + STRATEGY_FEATURES
"""The columns of ``matrix``, in order."""

FEATURE_NAMES: Final = tuple(feature.name for feature in FEATURES)
