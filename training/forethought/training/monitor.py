"""Check the serving policy for drift on the log's newest decisions, and take it back if wrong."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from forethought.router.errors import ConfigError
from forethought.router.registry import Registry
from forethought.training import drift
from forethought.training.drift import Drift, DriftRule
from forethought.training.lineage import serving
from forethought.training.sources import opened_log
from forethought.training.tracking import set_alias

SINCE_DAYS: Final = 7.0
"""Older decisions say nothing about today."""


def check(data_dir: Path, store: str | None, rule: DriftRule, *, demote: bool) -> Drift:
    """Look at the newest decisions, leave what was found for running servers to show.

    With ``demote``, a champion that is wrong about its own answers makes room for the one before.
    """
    registry = Registry(data_dir)
    policy = serving(registry, [])
    version = "none" if policy is None else policy.version
    info = {} if policy is None else policy.manifest.get("info", {})
    with opened_log(data_dir, store) as reader:
        since = time.time() - 86_400 * SINCE_DAYS
        newest = deque(reader.logged_decisions(since=since), maxlen=2 * rule.window)
    found = drift.check(list(newest), policy=version, against=info.get("reference"), rule=rule)
    if demote and found.calibration_alarm and registry.champion() == version:
        to = registry.rollback()
        found = replace(found, demoted_to=to or "pretrained")
        set_alias("champion", to, data_dir=data_dir, url=None)
    try:
        drift.write_status(found, registry.folder)
    except OSError as error:
        raise ConfigError(
            f"{registry.folder} cannot be written ({error.strerror}).", param="data_dir"
        ) from error
    return found


def lines(found: Drift) -> Iterator[str]:
    """What was found, in plain words."""
    yield (
        f"Policy {found.policy}: {found.n_decisions:,} decisions of the last {SINCE_DAYS:g} days "
        f"in {found.n_contexts:,} contexts, {found.n_judged:,} of them its own and judged."
    )
    if found.psi_max is None:
        yield "  features: not compared (the policy has no reference, or the contexts are too few)"
    else:
        yield f"  features: the largest population stability index is {found.psi_max:.3f}"
    for name, value in list(found.moved.items())[:10]:
        yield f"  ALARM: {name} has moved, index {value:.3f}"
    error, low, high = found.calibration_error, found.calibration_low, found.calibration_high
    if error is None or low is None or high is None:
        yield "  calibration: too few judged contexts to say anything"
    else:
        yield (
            f"  calibration: predictions are {100 * error:+.1f} points from the judgements "
            f"(99%: {100 * low:+.1f} to {100 * high:+.1f})"
        )
    if found.calibration_alarm:
        yield "  ALARM: the policy is wrong about its own answers"
    if found.demoted_to is not None:
        yield f"  It was taken back: {found.demoted_to} serves."
    elif not found.alarm:
        yield "  No alarm."
