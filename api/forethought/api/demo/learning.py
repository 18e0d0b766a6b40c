"""Training as a person would start it: `forethought train` in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from forethought.api.demo.errors import DemoError
from forethought.api.demo.server import environment

TIMEOUT_S: Final = 300.0

_TITLES: Final = {
    "quality": "how right",
    "predictability": "predictability",
    "tokens": "output tokens",
    "latency_ms": "latency",
    "demand": "demand",
}
_SCORES: Final = {
    "ece": "calibration error",
    "auroc": "AUROC",
    "mae_log": "mean error of the logarithm",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What `forethought train --json` said; ``refusal`` instead where it could not train."""

    figures: Mapping[str, Any] | None
    refusal: str | None = None

    @property
    def candidate(self) -> str | None:
        """The new policy's version."""
        return None if self.figures is None else str(self.figures["version"])

    @property
    def promoted(self) -> bool:
        """Whether the gate let it serve."""
        return self.figures is not None and bool(self.figures["promoted"])


def train(data_dir: Path, *, seed: int) -> Training:
    """Fit a policy from the log, judge it, and let it serve if the gate agrees."""
    done = _forethought(["train", "--data-dir", str(data_dir), "--seed", str(seed), "--json"])
    if done.returncode != 0:  # what was measured so far is worth showing all the same
        refusal = _last_line(done.stderr).removeprefix("forethought: ")
        return Training(figures=None, refusal=refusal)
    return Training(figures=json.loads(_last_line(done.stdout)))


def promote(data_dir: Path, version: str) -> None:
    """Let a saved policy serve, whatever the gate said."""
    done = _forethought(["promote", version, "--data-dir", str(data_dir)])
    if done.returncode != 0:
        raise DemoError(f"forethought promote failed: {_last_line(done.stderr)}", param="promote")


def training_lines(training: Training) -> list[str]:
    """What the training did, the held-out figures, and what the gate said."""
    figures = training.figures
    if figures is None:
        return [f"No new policy: {training.refusal}"]
    data = figures["data"]
    fitted_on = (
        f"Policy {figures['version']}, fitted on {data['train_rows']} answers in "
        f"{data['train_contexts']} contexts; held out: {data['held_out_rows']} answers in "
        f"{data['held_out_contexts']} contexts."
    )
    lines = [fitted_on]
    fitted = figures["held_out"].get("fitted", {})
    before = figures["held_out"].get("initial", {})
    for head, scores in fitted.items():
        said = [
            f"{title} {scores[name]:.2f}{_before(before.get(head, {}).get(name))}"
            for name, title in _SCORES.items()
            if scores.get(name) is not None
        ]
        if said:
            lines.append(f"  held out, {_TITLES.get(head, head)}: {', '.join(said)}")
    return [*lines, f"  the gate: {figures['gate']['reason']}"]


def _before(value: float | None) -> str:
    return "" if value is None else f" (before {value:.2f})"


def _forethought(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "forethought.api.cli", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env=environment(),
        )
    except subprocess.TimeoutExpired as error:
        raise DemoError(
            f"forethought {arguments[0]} took more than {TIMEOUT_S:.0f} s.", param=arguments[0]
        ) from error


def _last_line(text: str) -> str:
    """The last line that says something: the frame of a usage error does not."""
    lines = [line.strip(" │") for line in text.splitlines() if any(c.isalnum() for c in line)]
    return lines[-1] if lines else "it said nothing."
