"""What came of one client."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Counts of checks; ``failures`` names those that failed, ``left_out`` counts those not run."""

    client: str
    version: str
    passed: int = 0
    failures: tuple[str, ...] = ()
    left_out: int = 0

    def __add__(self, other: Result) -> Result:
        return replace(
            self,
            passed=self.passed + other.passed,
            failures=self.failures + other.failures,
            left_out=self.left_out + other.left_out,
        )
