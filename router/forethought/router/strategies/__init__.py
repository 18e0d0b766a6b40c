"""Strategies by name, in order of rising test-time compute without and with sleep."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from forethought.router.strategies.base import Prepared, Request, Strategy
from forethought.router.strategies.direct import Direct
from forethought.router.strategies.effort import Effort
from forethought.router.strategies.learned import Learned

__all__ = ["STRATEGIES", "Prepared", "Request", "Strategy"]

_ALL: tuple[Strategy, ...] = (
    Direct(),
    Effort("low"),
    Effort("high"),
    Learned("low"),
    Learned("high"),
)

STRATEGIES: Final[Mapping[str, Strategy]] = MappingProxyType({s.name: s for s in _ALL})
