"""The contexts that this process knows: a least-recently-used cache over the store.

The event loop never waits for the database: what is not at hand is read in a thread, once.
What another process writes (a newer learned context, a deletion) is seen after ``REFRESH_S``.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from forethought.router.context import Split
from forethought.router.log import LogReader
from forethought.router.records import Context, LearnedContext

REFRESH_S: Final = 30.0
"""So long a context counts as up to date; the reads that this saves are the whole point."""

UNKNOWN_S: Final = 10.0
"""So long a hash counts as unknown: shorter, as a context that another process registered
should serve soon."""

MAX_CHARS: Final = 16_000_000
"""Characters of contexts kept: with their texts, 32-64 MB of memory."""

_ENTRY_CHARS: Final = 1_000
"""What an entry takes beside its context."""

MAX_UNKNOWN: Final = 20_000

T = TypeVar("T")


@dataclass(slots=True)
class Known:
    """A context with its newest learned context, and what this process remembers of it.

    ``saved`` says that the store has it. ``features`` are those of its latest query.
    ``plan_at``: the number of queries at which its sleep is planned again, under the policy
    ``planned_by``.
    """

    context: Context
    learned: LearnedContext | None = None
    saved: bool = False
    read_at: float = 0.0
    features: Mapping[str, float] | None = None
    plan_at: int = 0
    planned_by: str = ""
    size: int = 0


class KnownContexts:
    """Contexts by tenant and hash. For one event loop; only ``read`` leaves it.

    Args:
        reader: The store.
        executor: Where the store is read.
    """

    def __init__(self, reader: LogReader, executor: Executor) -> None:
        self._reader = reader
        self._executor = executor
        self._known: OrderedDict[tuple[str, str], Known] = OrderedDict()
        self._hashes: dict[str, tuple[str, str]] = {}
        self._unknown: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._chars = 0

    def __len__(self) -> int:
        return len(self._known)

    async def read(self, call: Callable[[], T]) -> T:
        """Run a blocking read in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def get(self, tenant: str, context_hash: str | None) -> Known | None:
        """The context of this hash, if it is at hand."""
        if context_hash is None:
            return None
        key = (tenant, context_hash)
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
        return found

    def missing(self, tenant: str, hashes: Iterable[str]) -> list[str]:
        """Those of ``hashes`` of which the store has to be asked."""
        now = time.monotonic()
        return [h for h in hashes if self._is_stale((tenant, h), now)]

    async def load(self, tenant: str, hashes: Sequence[str]) -> None:
        """Ask the store for contexts. Raises StoreError where it cannot be read."""
        found = await self.read(lambda: self._read(tenant, hashes))
        now = time.monotonic()
        for context, learned in found:
            self._merge(context, learned, now)
        for unknown in set(hashes).difference(context.hash for context, _ in found):
            key = (tenant, unknown)
            entry = self._known.get(key)
            if entry is not None and entry.saved:
                self._drop(key)  # another process deleted it
            if entry is None:
                self._unknown[key] = now + UNKNOWN_S
                self._unknown.move_to_end(key)
        while len(self._unknown) > MAX_UNKNOWN:
            self._unknown.popitem(last=False)

    async def by_id(self, tenant: str, context_id: str) -> Known | None:
        """The tenant's context of this id, from the store if it is not at hand."""
        key = self._hashes.get(context_id)
        if key is not None and key[0] == tenant and not self._is_stale(key, time.monotonic()):
            return self.get(*key)
        found = await self.read(lambda: self._read_id(tenant, context_id))
        if found is None:
            unsaved = None if key is None else self.get(*key)
            return unsaved if unsaved and key and key[0] == tenant and not unsaved.saved else None
        return self._merge(*found, time.monotonic())

    def add(self, context: Context, *, saved: bool) -> Known:
        """Remember a context that was just found or registered."""
        key = (context.tenant, context.hash)
        known = self._known.get(key)
        if known is None:
            known = Known(context, read_at=time.monotonic())
            self._keep(key, known)
        elif context.registered and not known.context.registered:
            known.context = replace(known.context, registered=True)
        known.saved = known.saved or saved
        self._unknown.pop(key, None)
        return known

    def touched(self, known: Known, at: float) -> None:
        """Count a query on a context."""
        context = known.context
        known.context = replace(context, n_queries=context.n_queries + 1, last_query_at=at)

    def learned(self, learned: LearnedContext) -> None:
        """Take up a learned context that sleep has just stored."""
        key = self._hashes.get(learned.context_id)
        known = None if key is None else self._known.get(key)
        if known is not None:
            known.learned = learned

    def forget(self, context_id: str) -> None:
        """Drop a context that was deleted."""
        key = self._hashes.get(context_id)
        if key is not None:
            self._drop(key)

    def _is_stale(self, key: tuple[str, str], now: float) -> bool:
        known = self._known.get(key)
        if known is not None:
            return known.saved and now > known.read_at + REFRESH_S
        return now > self._unknown.get(key, -1.0)

    def _read(
        self, tenant: str, hashes: Sequence[str]
    ) -> list[tuple[Context, LearnedContext | None]]:
        found = self._reader.contexts_by_hash(tenant, hashes)
        return [(context, self._reader.latest_learned(context.id)) for context in found]

    def _read_id(
        self, tenant: str, context_id: str
    ) -> tuple[Context, LearnedContext | None] | None:
        context = self._reader.context(context_id, tenant)
        return None if context is None else (context, self._reader.latest_learned(context.id))

    def _merge(self, read: Context, learned: LearnedContext | None, now: float) -> Known:
        key = (read.tenant, read.hash)
        known = self._known.get(key)
        if known is None or known.context.id != read.id:
            if known is not None:
                self._drop(key)
            known = Known(read, learned)
            self._keep(key, known)
        # Our own latest queries may still be on their way into the store.
        n_queries = max(read.n_queries, known.context.n_queries)
        latest = max(read.last_query_at or 0.0, known.context.last_query_at or 0.0) or None
        known.context = replace(read, n_queries=n_queries, last_query_at=latest)
        if known.learned is None or (learned and learned.version > known.learned.version):
            known.learned = learned
        known.saved, known.read_at = True, now
        self._unknown.pop(key, None)
        return known

    def _keep(self, key: tuple[str, str], known: Known) -> None:
        self._known[key] = known
        self._hashes[known.context.id] = key
        known.size = len(repr(known.context.messages)) + _ENTRY_CHARS
        self._chars += known.size
        while self._chars > MAX_CHARS and len(self._known) > 1:
            self._drop(next(iter(self._known)))

    def _drop(self, key: tuple[str, str]) -> None:
        known = self._known.pop(key)
        self._hashes.pop(known.context.id, None)
        self._chars -= known.size


def new_context(split: Split, *, tenant: str, context_id: str, now: float) -> Context | None:
    """The context that a request was found to have; None where it has none."""
    if split.boundary is None:
        return None
    return Context(
        id=context_id,
        tenant=tenant,
        hash=split.boundary.hash,
        messages=split.context_messages,
        text=split.context_text,
        created_at=now,
    )
