"""What this process remembers of past queries, for the features of the next.

It is told of answers, judgements and scores as they come, and reads those of before its start from
the log. Until that is read, nothing is known of the past. Judgements that another process takes in
are seen after a restart.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from forethought.models.features import FeatureExtractor
from forethought.models.history import History, Precedents, Vector
from forethought.router.context import text_of
from forethought.router.errors import StoreError
from forethought.router.records import Context, Message

log = logging.getLogger(__name__)

FROM_LEARNED: Final = "learned:low"
"""The strategy whose judged quality is the realised predictability."""

COUNTED: Final = frozenset({"ok", "cancelled", "failed"})
"""Outcomes after which a query counts as asked, as it does for its context."""

APPLICATION_CHARS: Final = 512
"""Of a system prompt's first paragraph; longer ones are told apart by their beginning."""

_SEEN: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A query on a context was answered. ``query`` is empty where texts are not kept."""

    at: float
    context_id: str
    query: str
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """An answer was judged; ``before`` is the judgement of it that this one replaces."""

    at: float
    context_id: str
    strategy: str
    quality: float
    before: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The surprisal of a query was measured."""

    at: float
    context_id: str
    nats_per_token: float


Event = Asked | Judged | Scored
"""``at`` is when it became known (Unix seconds)."""

Past = tuple[Mapping[str, Context], Iterable[Event]]
"""Contexts by id, and what came of them in the order of time."""


def application_of(messages: Sequence[Message]) -> str | None:
    """Which application asks: a hash of the first paragraph of its system prompt; None without one.

    A request names its tenant by its key, but no application: ``user`` is an end user, ``model``
    changes under the same application, and ``metadata`` means something else to everyone. What an
    application's requests share is how its instructions begin, before any document in them.
    """
    if not messages or messages[0].get("role") not in {"system", "developer"}:
        return None
    first = text_of(messages[0].get("content")).strip().split("\n\n", 1)[0][:APPLICATION_CHARS]
    return hashlib.sha256(first.encode(errors="replace")).hexdigest()[:16] if first else None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a context's text says of it, worked out once."""

    vector: Vector | None
    application: str | None


class Experience:
    """The past of this process's tenants. For one event loop; only ``load`` leaves it."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self._extractor = extractor
        self._history = History()
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._early: list[Callable[[History], None]] | None = None
        """What came while the log is being read."""

    def precedents(self, context: Context | None, vector: Vector | None, tenant: str) -> Precedents:
        """What is known now of a context with the embedding ``vector`` (dim,), and around it."""
        if context is None:
            return self._history.precedents(tenant, None, None, None)
        seen = self._seen.get(context.id)
        if seen is None or (seen.vector is None and vector is not None):
            seen = self._see(context, vector)
        return self._history.precedents(tenant, context.id, seen.application, vector)

    def asked(self, event: Asked, context: Context) -> None:
        """Count a query that was answered."""
        seen = self._seen.get(context.id)
        if seen is None or seen.vector is None:
            seen = self._see(context, self._extractor.context_embedding(context.text))
        self._change(lambda history: self._tell(history, event, context, seen))

    def heard(self, event: Judged | Scored) -> None:
        """Take up what was said of an answer, or measured of a query."""
        self._change(lambda history: self._tell(history, event))

    def forget(self, context_id: str) -> None:
        """Drop a context that was deleted."""
        self._seen.pop(context_id, None)
        self._change(lambda history: history.forget(context_id))

    async def load(self, read: Callable[[float], Past], until: float, executor: Executor) -> None:
        """Read what was known before ``until``, which has to be now (Unix seconds).

        What comes meanwhile is taken up afterwards. Never raises for the log's sake.
        """
        self._early = []
        loop = asyncio.get_running_loop()
        try:
            history = await loop.run_in_executor(executor, lambda: self.recalled(*read(until)))
        except StoreError as error:
            log.warning("the past cannot be read, and is unknown: %s", error)
            history = History()
        early, self._early, self._history = self._early, None, history
        for change in early:
            change(history)

    def recalled(self, contexts: Mapping[str, Context], events: Iterable[Event]) -> History:
        """The past that these events make."""
        history, seen = History(), dict[str, _Seen]()
        for event in events:
            context = contexts[event.context_id]
            if context.id not in seen:
                seen[context.id] = self._seen_of(context)
            self._tell(history, event, context, seen[context.id])
        return history

    def _change(self, change: Callable[[History], None]) -> None:
        if self._early is None:
            change(self._history)
        else:
            self._early.append(change)

    def _tell(
        self,
        history: History,
        event: Event,
        context: Context | None = None,
        seen: _Seen | None = None,
    ) -> None:
        if isinstance(event, Judged):
            history.judged(
                event.context_id,
                from_learned=event.strategy == FROM_LEARNED,
                quality=event.quality,
                before=event.before,
            )
        elif isinstance(event, Scored):
            history.scored(event.context_id, event.nats_per_token)
        elif context is not None and seen is not None and seen.vector is not None:
            history.asked(
                tenant=context.tenant,
                context_id=context.id,
                application=seen.application,
                vector=seen.vector,
                query=self._extractor.query_embedding(event.query) if event.query else None,
                at=event.created_at,
            )

    def _seen_of(self, context: Context) -> _Seen:
        vector = self._extractor.context_embedding(context.text)
        return _Seen(vector, application_of(context.messages))

    def _see(self, context: Context, vector: Vector | None) -> _Seen:
        seen = self._seen[context.id] = _Seen(vector, application_of(context.messages))
        if len(self._seen) > _SEEN:
            self._seen.popitem(last=False)
        return seen
