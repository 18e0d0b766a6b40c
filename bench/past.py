"""A past for recorded queries: their contexts replayed as one tenant's traffic, in random order.

The recorded tables have no tenants and no times. So the queries of all contexts are shuffled, each
context's own kept in order, and asked a minute apart; each is answered once, half of them by
``learned:low`` (the others by any strategy that was recorded), and every second answer is judged.
Before each query the router's own memory is asked what it knows then.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np

from bench.journal import Row
from bench.recorder import context_messages
from forethought.models.features import ContextVector, FeatureExtractor
from forethought.models.history import History, Precedents
from forethought.router.experience import FROM_LEARNED, application_of

Past = Literal["alone", "together", "mixed"]
"""``alone``: each context is the first of its tenant, as on a new install. ``together``: all are
one tenant's. ``mixed``: half of the contexts so, half the other way; to fit on, as both are met.
"""

GAP_S: Final = 60.0
LEARNED_SHARE: Final = 0.5
JUDGED_SHARE: Final = 0.5

Asked = tuple[Row, Mapping[str, Row]]
"""A context and its queries by id."""


def precedents(
    contexts: Mapping[str, Asked],
    qualities: Mapping[str, Mapping[str, float]],
    vectors: Mapping[str, ContextVector],
    extractor: FeatureExtractor,
    *,
    past: Past,
    surprisals: Mapping[str, float],
    seed: int = 0,
) -> dict[str, Precedents]:
    """What is known before each query that was recorded, by the query's id.

    Args:
        contexts: By id.
        qualities: By query, the quality that each strategy had.
        vectors: The contexts' embeddings.
        extractor: Embeds the queries.
        past: Who is whose neighbour.
        surprisals: By query, in nats a token, where they are known after the query.
        seed: Of the order, the answers and the judgements.
    """
    rng = np.random.default_rng(seed)
    history, found = History(), dict[str, Precedents]()
    for at, (name, query_id) in enumerate(_order(contexts, qualities, rng)):
        context, queries = contexts[name]
        alone = past == "alone" or (past == "mixed" and zlib.crc32(name.encode()) % 2 == 0)
        tenant, vector = name if alone else "all", vectors[name].embedding
        application = application_of(list(context_messages(context)))
        found[query_id] = history.precedents(tenant, name, application, vector)
        history.asked(
            tenant=tenant,
            context_id=name,
            application=application,
            vector=vector,
            query=extractor.query_embedding(queries[query_id]["query"]),
            at=GAP_S * at,
        )
        strategy = _answered_by(sorted(qualities[query_id]), rng)
        if rng.random() < JUDGED_SHARE:
            history.judged(
                name,
                from_learned=strategy == FROM_LEARNED,
                quality=qualities[query_id][strategy],
            )
        if query_id in surprisals:
            history.scored(name, surprisals[query_id])
    return found


def _order(
    contexts: Mapping[str, Asked],
    qualities: Mapping[str, Mapping[str, float]],
    rng: np.random.Generator,
) -> list[tuple[str, str]]:
    """All (context, query) in a random order that keeps that of each context's queries."""
    asked = {
        name: [query for query in queries if query in qualities]
        for name, (_, queries) in contexts.items()
    }
    turns = [name for name, queries in asked.items() for _ in queries]
    waiting = {name: iter(queries) for name, queries in asked.items()}
    return [(turns[i], next(waiting[turns[i]])) for i in rng.permutation(len(turns)).tolist()]


def _answered_by(strategies: Sequence[str], rng: np.random.Generator) -> str:
    others = [name for name in strategies if name != FROM_LEARNED]
    if FROM_LEARNED in strategies and (not others or rng.random() < LEARNED_SHARE):
        return FROM_LEARNED
    return others[int(rng.integers(len(others)))]
