"""`forethought serve` with parts switched off, to see what they cost: see ``bench.gateway``.

``python -m bench.gateway_child log,prediction --port ...``: the parts, then serve's options.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from forethought.api.cli import main
from forethought.router.decision import Decider
from forethought.router.experience import Experience
from forethought.router.log.writer import LogWriter


def without_log() -> None:
    """What should be written is dropped."""

    async def write(_self: Any, *_records: Any) -> None:
        return None

    def post(_self: Any, *_records: Any) -> None:
        return None

    def begin(_self: Any, *_records: Any) -> asyncio.Future[None]:
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stored.set_result(None)
        return stored

    LogWriter.begin = begin  # type: ignore[method-assign,assignment]
    LogWriter.write = write  # type: ignore[method-assign,assignment]
    LogWriter.post = post  # type: ignore[method-assign,assignment]
    LogWriter.context_touched = post  # type: ignore[method-assign,assignment]


def without_prediction() -> None:
    """Every request is ``direct``, without a look at it; nor is it kept for a later prediction."""

    def decide(self: Decider, situation: Any) -> Any:
        return self._fallback(situation, {}, "prediction is off")

    def asked(_self: Any, *_event: Any) -> None:
        return None

    Decider.decide = decide  # type: ignore[method-assign]
    Experience.asked = asked  # type: ignore[method-assign,assignment]


PARTS = {"log": without_log, "prediction": without_prediction}

if __name__ == "__main__":
    for part in sys.argv[1].split(","):
        PARTS[part]()
    sys.argv[1:] = ["serve", *sys.argv[2:]]
    main()
