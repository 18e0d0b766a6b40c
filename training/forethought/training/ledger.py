r"""How often the gate was asked, and how much error each answer may spend.

Whoever tries a worthless candidate every day passes a 5% test within weeks. So the error alpha is
for all tests together: the k-th may spend

    alpha_k = alpha / (k (k + 1)),   and  sum_k alpha_k = alpha,

over several candidates and over repeated retraining, whatever the tests share (union bound).
The price grows with ln k only. It starts anew when a policy is promoted, and from then on only
decisions count that were made since: data that chose the champion cannot judge its successor.
So the chance that anything worthless is ever promoted before the first promotion is at most
alpha, and each promotion adds at most another alpha of false ones.

Looking again at the same candidate, against the same champion, on the same data spends nothing:
the answer is the same. Recorded outcomes do not grow, so their tests are never forgotten.

Sources: alpha spending, Lan and DeMets 1983; over a stream of hypotheses, Foster and Stine 2008
(alpha investing), Ramdas et al. 2018.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forethought.router.errors import ConfigError

LEDGER: Final = "gate.json"
"""Beside the policies, in their folder."""

LOCK: Final = "gate.lock"
"""Beside the ledger; whoever holds it asks."""


class Test(BaseModel):
    """One question to the gate.

    Attributes:
        scope: Which data the error is kept over.
        candidate: Its version.
        champion: The version it was judged against.
        data: Fingerprint of the data.
        number: k, counted within ``scope`` from 1.
        level: alpha_k.
        alpha: For all tests of the scope.
        at: Unix seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    __test__ = False  # no test of pytest's

    scope: str
    candidate: str
    champion: str
    data: str
    number: int = Field(ge=1)
    level: float = Field(gt=0, lt=1)
    alpha: float = Field(gt=0, lt=1)
    at: float


class _Pages(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tests: list[Test] = []


class Ledger:
    """The tests of one data folder, kept in a file. Holds nothing in memory.

    Several processes may train: each asks, answers and records within its own ``turn``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Nobody else asks before the block ends; waits for whoever is asking now.

        Of two that ask at once both would be the k-th test, and one test would be spent for free.
        The lock falls with the process. It is the file's, so a second turn within the first, or in
        another thread, waits as another process does.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path.parent / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def tests(self) -> list[Test]:
        """All tests, the oldest first.

        Raises:
            ConfigError: The file cannot be read.
        """
        try:
            return _Pages.model_validate_json(self.path.read_bytes()).tests
        except FileNotFoundError:
            return []
        except (OSError, ValidationError) as error:
            raise ConfigError(
                f"{self.path} does not say which candidates the gate has tested "
                f"({type(error).__name__}).",
                param=str(self.path),
                remedy="Restore it. Removing it forgets how much of the error is spent, so that "
                "retraining often enough would promote by luck.",
            ) from error

    def ask(
        self, *, scope: str, candidate: str, champion: str, data: str, alpha: float, now: float
    ) -> Test:
        """The level at which this question may be answered. ``record`` it once it was.

        A question that cannot be answered (no data, no support) spends nothing: that it cannot
        does not depend on what was earned.

        Args:
            scope: Which data the error is kept over: tests are counted within it.
            candidate: Version of the policy in question.
            champion: Version of the one that serves.
            data: Fingerprint of the data.
            alpha: Error of all tests of the scope together, above 0 and below 1.
            now: Unix seconds.
        """
        same = [test for test in self.tests() if test.scope == scope]
        for test in same:
            asked = (test.candidate, test.champion, test.data, test.alpha)
            if asked == (candidate, champion, data, alpha):
                return test
        number = len(same) + 1
        return Test(
            scope=scope,
            candidate=candidate,
            champion=champion,
            data=data,
            number=number,
            level=level_of(number, alpha),
            alpha=alpha,
            at=now,
        )

    def record(self, test: Test) -> None:
        """Write down that a question was answered; the same one again changes nothing.

        Raises:
            ConfigError: Another question was asked meanwhile, outside of this ``turn``, and has
                spent what this one was to spend.
        """
        earlier = self.tests()
        if test in earlier:
            return
        if any((one.scope, one.number) == (test.scope, test.number) for one in earlier):
            raise ConfigError(
                f"Test {test.number} of {test.scope} is spent already.",
                param=str(self.path),
                remedy="Ask again, and answer and record within the same turn of the ledger.",
            )
        self._write(_Pages(tests=[*earlier, test]))

    def _write(self, pages: _Pages) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".gate-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(pages.model_dump_json(indent=1))
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def level_of(number: int, alpha: float) -> float:
    """``alpha / (k (k + 1))``: what the k-th test may spend."""
    return alpha / (number * (number + 1))
