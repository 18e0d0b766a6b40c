"""Which question a round of training asks of the gate, and what it may spend on it."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

from forethought.models.bundle import PolicyBundle
from forethought.router.errors import ConfigError
from forethought.router.registry import Registry
from forethought.training.dataset import Dataset
from forethought.training.evaluation import Evaluation
from forethought.training.gate import GateRule
from forethought.training.ledger import LEDGER, Ledger, Test
from forethought.training.lineage import serving_name


def turn(registry: Registry) -> AbstractContextManager[None]:
    """One round of training at a time asks, settles and promotes; others wait."""
    return Ledger(registry.folder / LEDGER).turn()


def ask(
    registry: Registry,
    dataset: Dataset,
    candidate: PolicyBundle,
    champion: PolicyBundle | None,
    rule: GateRule,
) -> Test:
    """How much error the gate may spend on this question; nothing is written down yet."""
    began = since(registry)
    scope = "log" if began is None else f"log since {began:.6f}"
    return Ledger(registry.folder / LEDGER).ask(
        scope=f"recorded {dataset.fingerprint}" if dataset.recorded else scope,
        candidate=candidate.version,
        champion=serving_name(champion),
        data=dataset.fingerprint,
        alpha=rule.alpha,
        now=time.time(),
    )


def settle(registry: Registry, test: Test, evaluation: Evaluation | None) -> Test | None:
    """Write the test down if there was one: None where nothing could be, or was to be, judged."""
    if evaluation is None or not evaluation.n_differ:
        return None
    Ledger(registry.folder / LEDGER).record(test)
    return test


def since(registry: Registry) -> float | None:
    """When the champion began to serve; None where none was promoted."""
    try:
        pointer = registry.pointer()
    except ConfigError:  # a damaged pointer: `serving` notes it
        return None
    return None if pointer is None else pointer.promoted_at
