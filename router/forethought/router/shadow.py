"""Shadow mode: a challenger scores live decisions without serving them.

What it would have chosen, and with which probabilities, goes to
``<data_dir>/shadow/<version>/<day>.jsonl``, one line a decision: no text, no features. Scoring
waits for the reply and runs in a thread of its own, so no request waits for it; where decisions
come faster than they can be scored, some are left out and counted.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from forethought.router.allocation import Preferences
from forethought.router.candidates import target_probabilities
from forethought.router.pricing import Prices
from forethought.router.records import Decision, LoggedDecision

if TYPE_CHECKING:
    from forethought.models.bundle import PolicyBundle

log = logging.getLogger(__name__)

FOLDER: Final = "shadow"

MOST_WAITING: Final = 200
"""Decisions that may wait to be scored: some 60 ms of work."""

_DRAWN: Final = frozenset({"greedy", "explored"})


class ShadowObserver(Protocol):
    """Who is told how a challenger does, for the metrics."""

    def shadow_scored(self, *, agrees: bool, took_ms: float) -> None: ...

    def shadow_failed(self, why: str) -> None: ...


class Shadow:
    """Scores decisions by ``bundle``, if there is one; it may be replaced at any time.

    Args:
        data_dir: Where the lines are written.
        preferences: What an answer is worth now.
        prices_of: Prices by model.
        observer: Is told of each decision.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        preferences: Callable[[], Preferences],
        prices_of: Callable[[str], Prices | None],
        observer: ShadowObserver,
    ) -> None:
        self.bundle: PolicyBundle | None = None
        self._folder = data_dir / FOLDER
        self._preferences = preferences
        self._prices_of = prices_of
        self._observer = observer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forethought-shadow")
        self._waiting: set[Future[None]] = set()

    def consider(self, decision: Decision) -> None:
        """Score a decision that a policy drew; returns at once."""
        bundle = self.bundle
        if bundle is None or decision.mode not in _DRAWN:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._observer.shadow_failed("too many waiting")
            return
        future = self._thread.submit(self._score, decision, bundle, self._preferences())
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)

    def close(self) -> None:
        """Score what still waits, then stop."""
        self._thread.shutdown()

    def _score(self, decision: Decision, bundle: PolicyBundle, preferences: Preferences) -> None:
        began = time.perf_counter()
        line = {"decision": decision.id, "at": decision.created_at, "served": decision.strategy,
                "by": decision.policy_version}  # fmt: skip
        try:
            chances = target_probabilities(
                LoggedDecision(decision=decision), bundle, preferences,
                self._prices_of(decision.model),
            )  # fmt: skip
            own = max(chances, key=lambda name: chances[name])
            took_ms = 1000 * (time.perf_counter() - began)
            found = {
                "own": own,
                "preferred": max(decision.candidates, key=lambda c: c.propensity).strategy,
                "chances": {name: round(p, 6) for name, p in chances.items() if p > 0},
                "took_ms": round(took_ms, 3),
            }
        except Exception:
            log.exception("the challenger %s could not score a decision", bundle.version)
            self._append(bundle.version, {**line, "failed": True})
            self._observer.shadow_failed("prediction")
            return
        self._append(bundle.version, {**line, **found})
        self._observer.shadow_scored(agrees=own == found["preferred"], took_ms=took_ms)

    def _append(self, version: str, line: dict[str, object]) -> None:
        day = datetime.now(tz=UTC).strftime("%Y-%m-%d")
        path = self._folder / version / f"{day}.jsonl"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # One write at the end of the file: several servers may share it.
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, (json.dumps(line) + "\n").encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            log.warning("%s cannot be written: %s", path, error.strerror)
            self._observer.shadow_failed("disk")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSummary:
    """How a challenger did on live traffic.

    ``agreement``: share of the decisions in which it likes best what the policy that served liked
    best. ``swaps``: the most frequent (served policy's, challenger's) favourites that differ.
    """

    n_decisions: int
    n_failed: int
    agreement: float
    mean_ms: float
    swaps: tuple[tuple[tuple[str, str], int], ...]


def read_shadow(data_dir: Path, version: str) -> ShadowSummary | None:
    """What a version's shadow left behind; None where it never scored anything."""
    failed = n = agrees = 0
    took = 0.0
    swaps: Counter[tuple[str, str]] = Counter()
    for line in _lines(data_dir / FOLDER / version):
        if line.get("failed"):
            failed += 1
            continue
        n += 1
        took += float(line["took_ms"])
        if line["own"] == line["preferred"]:
            agrees += 1
        else:
            swaps[line["preferred"], line["own"]] += 1
    if not n + failed:
        return None
    return ShadowSummary(
        n_decisions=n,
        n_failed=failed,
        agreement=agrees / n if n else 0.0,
        mean_ms=took / n if n else 0.0,
        swaps=tuple(swaps.most_common(3)),
    )


def _lines(folder: Path) -> Iterator[dict[str, str]]:
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                try:
                    found = json.loads(line)
                except ValueError:
                    continue  # cut off when a server was killed
                if isinstance(found, dict):
                    yield found
