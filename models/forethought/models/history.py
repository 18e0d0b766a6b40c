"""What is remembered of past queries: the precedents of a decision, kept by running sums.

Of each tenant the latest ``CONTEXTS`` contexts that were asked about, each with its embedding, its
latest queries' embeddings and sums of what came of them. The figures of a tenant and of an
application are sums over these contexts too, so that a process that reads them back from a log
comes to the same ones. What was never seen is missing (NaN), never zero. All of it is what was told
before: nothing here looks at a clock or at a log.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from forethought.models.feature_table import HISTORY_FEATURES

Vector = NDArray[np.float32]
Sums = NDArray[np.float64]

CONTEXTS: Final = 512
"""Of one tenant: the similarity to all of them is what a decision may have to pay for."""

ALL_CONTEXTS: Final = 2048
"""Of all tenants together: with their queries, at most 20 MB."""

QUERIES: Final = 16
"""The latest of a context, with which a query is compared."""

NEIGHBOURS: Final = 16
SHARPNESS: Final = 10.0
"""A neighbour's weight is exp(SHARPNESS x cosine): word vectors of any two texts are alike, and a
tenth of cosine is much."""

_NEAR: Final = ("near_similarity", "near_right", "near_quality", "near_queries")
_TOLD: Final = {
    whose: tuple(f"{whose}_{n}" for n in ("queries", "right", "queries_per_context", "gap_s"))
    for whose in ("tenant", "app")
}
_BY_CONTEXT: Final = 3
REMEMBERED: Final = tuple(feature.name for feature in HISTORY_FEATURES)[_BY_CONTEXT:]
"""The features that ``History`` gives; the first three are the context's own record."""

REALISED: Final = frozenset(
    {"hist_right", "hist_quality", "near_right", "near_quality", "app_right", "tenant_right"}
)
"""Those that say how right earlier answers were."""

_NOTHING: Final[Mapping[str, float]] = MappingProxyType(dict.fromkeys(REMEMBERED, math.nan))

# The columns of the sums.
(_QUERIES_, _CONTEXTS_, _RIGHT, _RIGHT_N, _QUALITY, _QUALITY_N, _SURPRISAL, _SURPRISAL_N,
 _GAP_S, _GAPS) = range(10)  # fmt: skip
_N_SUMS: Final = 10


@dataclass(frozen=True, slots=True)
class Precedents:
    """What a decision may know of the past.

    ``values`` are the features ``REMEMBERED`` by name, in their order; ``queries`` the embeddings
    of earlier queries on the same context, (n, dim), None where there were none.
    """

    values: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    queries: NDArray[np.float16] | None = None

    def similarity(self, query: Vector) -> float:
        """The cosine of a query (dim,) and the nearest earlier one; NaN where there was none."""
        if self.queries is None:
            return math.nan
        return float((self.queries.astype(np.float32) @ query).max())


NO_PRECEDENTS: Final = Precedents()


@dataclass(frozen=True, slots=True)
class _Near:
    """The rows of a table that are nearest to ``vector``, their weights, (n,), and their cosine.

    True while the table's contexts are those of ``version``. ``rows`` is None where there are none.
    """

    vector: Vector
    version: int
    rows: NDArray[np.intp] | None
    weights: Sums
    cosine: float


@dataclass(slots=True)
class _Remembered:
    """A context in its tenant's table."""

    tenant: str
    application: str | None
    row: int
    last_at: float
    queries: NDArray[np.float16] | None = None
    near: _Near | None = None


class _Tenant:
    """A tenant's contexts as arrays: embeddings (n, dim) and sums (n, 10), rows used again."""

    def __init__(self, dim: int) -> None:
        self.vectors = np.zeros((8, dim), np.float32)
        self.sums = np.zeros((8, _N_SUMS))
        self.used = 0
        self.free: list[int] = []
        self.total = np.zeros(_N_SUMS)
        self.applications: dict[str, Sums] = {}
        self.contexts: OrderedDict[str, None] = OrderedDict()
        self.version = 0
        """Counts the contexts that came or went."""

    def new_row(self, vector: Vector) -> int:
        row = self.free.pop() if self.free else self.used
        if row == len(self.vectors):
            self.vectors = np.concatenate([self.vectors, np.zeros_like(self.vectors)])
            self.sums = np.concatenate([self.sums, np.zeros_like(self.sums)])
        self.used = max(self.used, row + 1)
        self.vectors[row] = vector
        self.version += 1
        return row

    def free_row(self, row: int) -> None:
        self.sums[row] = 0.0
        self.vectors[row] = 0.0
        self.free.append(row)
        self.version += 1


class History:
    """The past of all tenants. For one thread.

    Whoever tells it keeps the order of time; a decision asks ``precedents`` first, and its own
    query is told when it has been answered.
    """

    def __init__(self, *, per_tenant: int = CONTEXTS, in_all: int = ALL_CONTEXTS) -> None:
        self._per_tenant = per_tenant
        self._in_all = in_all
        self._tenants: dict[str, _Tenant] = {}
        self._contexts: OrderedDict[str, _Remembered] = OrderedDict()

    def __len__(self) -> int:
        return len(self._contexts)

    def precedents(
        self,
        tenant: str,
        context_id: str | None,
        application: str | None,
        vector: Vector | None,
    ) -> Precedents:
        """What is known now of a context, whose embedding is ``vector`` (dim,), and around it."""
        table = self._tenants.get(tenant)
        if table is None:
            return NO_PRECEDENTS
        values = dict(_NOTHING)
        own = None if context_id is None else self._contexts.get(context_id)
        if own is not None:
            sums = table.sums[own.row].tolist()
            values["hist_right"] = _mean(sums[_RIGHT], sums[_RIGHT_N])
            values["hist_quality"] = _mean(sums[_QUALITY], sums[_QUALITY_N])
            values["hist_surprisal"] = _mean(sums[_SURPRISAL], sums[_SURPRISAL_N])
        if vector is not None:
            values.update(_nearest(table, vector, own))
        values.update(_told("tenant", table.total))
        if application is not None and application in table.applications:
            values.update(_told("app", table.applications[application]))
        return Precedents(values, None if own is None else own.queries)

    def asked(
        self,
        *,
        tenant: str,
        context_id: str,
        application: str | None,
        vector: Vector,
        query: Vector | None,
        at: float,
    ) -> None:
        """Count a query that was answered; ``query`` (dim,) is None where its text is not kept."""
        table = self._tenants.setdefault(tenant, _Tenant(len(vector)))
        own = self._contexts.get(context_id)
        if own is None:
            own = _Remembered(tenant, application, table.new_row(vector), at)
            self._contexts[context_id] = own
            table.contexts[context_id] = None
            self._add(own, _CONTEXTS_, 1.0)
        else:
            self._contexts.move_to_end(context_id)
            table.contexts.move_to_end(context_id)
            # Answers may end in another order than the queries came.
            self._add(own, _GAP_S, max(0.0, at - own.last_at))
            self._add(own, _GAPS, 1.0)
            own.last_at = max(at, own.last_at)
        self._add(own, _QUERIES_, 1.0)
        if query is not None:
            latest, earlier = query.astype(np.float16)[None], own.queries
            own.queries = (
                latest if earlier is None else np.concatenate([earlier[1 - QUERIES :], latest])
            )
        if len(table.contexts) > self._per_tenant:
            self.forget(next(iter(table.contexts)))
        elif len(self._contexts) > self._in_all:
            self.forget(next(iter(self._contexts)))

    def judged(
        self, context_id: str, *, from_learned: bool, quality: float, before: float | None = None
    ) -> None:
        """Take up a judgement of an answer; ``before`` is an earlier one that it replaces.

        ``from_learned``: the answer was that of ``learned:low``.
        """
        own = self._contexts.get(context_id)
        if own is None:
            return
        change, more = quality - (before or 0.0), float(before is None)
        self._add(own, _QUALITY, change)
        self._add(own, _QUALITY_N, more)
        if from_learned:
            self._add(own, _RIGHT, change)
            self._add(own, _RIGHT_N, more)

    def scored(self, context_id: str, nats_per_token: float) -> None:
        """Take up the surprisal of a query that was asked."""
        own = self._contexts.get(context_id)
        if own is not None:
            self._add(own, _SURPRISAL, nats_per_token)
            self._add(own, _SURPRISAL_N, 1.0)

    def forget(self, context_id: str) -> None:
        """Drop a context and all that it added."""
        own = self._contexts.pop(context_id, None)
        if own is None:
            return
        table = self._tenants[own.tenant]
        del table.contexts[context_id]
        if not table.contexts:
            del self._tenants[own.tenant]
            return
        left = table.sums[own.row].copy()
        table.total -= left
        if own.application is not None:
            of_application = table.applications[own.application]
            of_application -= left
            if of_application[_CONTEXTS_] < 1:
                del table.applications[own.application]
        table.free_row(own.row)

    def _add(self, own: _Remembered, column: int, value: float) -> None:
        table = self._tenants[own.tenant]
        table.sums[own.row, column] += value
        table.total[column] += value
        if own.application is not None:
            sums = table.applications.get(own.application)
            if sums is None:
                sums = table.applications[own.application] = np.zeros(_N_SUMS)
            sums[column] += value


def _nearest(table: _Tenant, vector: Vector, own: _Remembered | None) -> dict[str, float]:
    """The tenant's other contexts near ``vector``, weighted by how near.

    Which they are is kept with a context while none came or went: looking for them reads half a
    megabyte and puts all else out of the processor's caches. What came of them changes, and is
    summed each time.
    """
    near = None if own is None else own.near
    if near is None or near.vector is not vector or near.version != table.version:
        near = _neighbours(table, vector, None if own is None else own.row)
        if own is not None:
            own.near = near
    if near.rows is None:
        return {}
    sums = (near.weights @ table.sums.take(near.rows, axis=0)).tolist()
    found = (
        near.cosine,
        _mean(sums[_RIGHT], sums[_RIGHT_N]),
        _mean(sums[_QUALITY], sums[_QUALITY_N]),
        _mean(sums[_QUERIES_], sums[_CONTEXTS_]),
    )
    return dict(zip(_NEAR, found, strict=True))


def _neighbours(table: _Tenant, vector: Vector, own: int | None) -> _Near:
    cosines = table.vectors[: table.used] @ vector
    if table.free:
        cosines[table.free] = -math.inf
    if own is not None:
        cosines[own] = -math.inf
    some = min(NEIGHBOURS, table.used)
    rows = np.argpartition(cosines, -some)[-some:]
    near = cosines[rows]
    nearest = float(near.max())
    if nearest == -math.inf:
        return _Near(vector, table.version, None, np.zeros(0), nearest)
    weights = np.exp(SHARPNESS * (near - nearest).astype(np.float64))
    return _Near(vector, table.version, rows, weights, nearest)


def _told(whose: Literal["tenant", "app"], sums: Sums) -> dict[str, float]:
    total = sums.tolist()
    found = (
        total[_QUERIES_],
        _mean(total[_RIGHT], total[_RIGHT_N]),
        _mean(total[_QUERIES_], total[_CONTEXTS_]),
        _mean(total[_GAP_S], total[_GAPS]),
    )
    return dict(zip(_TOLD[whose], found, strict=True))


def _mean(total: float, n: float) -> float:
    # Weights of neighbours may be small, counts less than a half are rounding.
    return total / n if n > 1e-9 else math.nan
