"""Strategies by name, in order of rising test-time compute without and with sleep."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from forethought.router.strategies.base import Prepared, Request, Strategy
from forethought.router.strategies.cascade import Cascade
from forethought.router.strategies.direct import Direct
from forethought.router.strategies.effort import Effort
from forethought.router.strategies.learned import Learned
from forethought.router.strategies.recall import Recall
from forethought.router.strategies.vote import Vote

__all__ = ["BY_NAME", "ON_REQUEST", "RECALL", "STRATEGIES", "Prepared", "Request", "Strategy"]

_ALL: tuple[Strategy, ...] = (
    Direct(),
    Effort("low"),
    Effort("high"),
    Learned("low"),
    Learned("high"),
)

STRATEGIES: Final[Mapping[str, Strategy]] = MappingProxyType({s.name: s for s in _ALL})
"""What the policy chooses from."""

ON_REQUEST: Final[Mapping[str, Strategy]] = MappingProxyType(
    {s.name: s for s in (Vote(3), Vote(5), Cascade())}
)
"""Several calls each, only where the client asks for them: no policy was trained on them, and a
prediction for them would be a guess."""

RECALL: Final = Recall()
"""Before the policy's choice, where the server allows it and a note's answer is certain."""

BY_NAME: Final[Mapping[str, Strategy]] = MappingProxyType(
    {**STRATEGIES, **ON_REQUEST, RECALL.name: RECALL}
)
