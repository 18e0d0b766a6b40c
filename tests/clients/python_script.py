"""Clients in Python whose checks are one script each: a line a check, as those of Node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.clients.environments import done, python_with
from tests.clients.result import Result


@dataclass(frozen=True, slots=True)
class Script:
    """``file`` beside this module, run by a Python that has ``packages``, the client first."""

    file: str
    packages: tuple[str, ...]

    def __call__(self, base_url: str, models: Sequence[str]) -> Result:
        del models
        name, _, version = self.packages[0].partition("==")
        python = python_with(name, *self.packages)
        script = Path(__file__).parent / self.file
        lines = done([str(python), str(script), base_url]).splitlines()
        return Result(
            client=name,
            version=version,
            passed=sum(line.startswith("ok ") for line in lines),
            failures=tuple(line for line in lines if line.startswith("not ok ")),
        )


Run = Callable[[str, Sequence[str]], Result]
