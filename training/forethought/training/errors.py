"""Training's exceptions.

ForethoughtError (forethought.models.errors)
└── TrainingError      there is too little, or the wrong, data to train or evaluate on
    └── SupportError   the log never, or never with a known chance, tried what a policy would do
"""

from __future__ import annotations

from collections.abc import Sequence

from forethought.models.errors import ForethoughtError


class TrainingError(ForethoughtError):
    """There is too little, or the wrong, data; ``param`` names where it came from."""

    code = "training_impossible"


class SupportError(TrainingError):
    """A policy would choose ``strategies`` where the log gave them no chance at all."""

    code = "support_missing"

    def __init__(self, message: str, *, strategies: Sequence[str], remedy: str) -> None:
        super().__init__(message, param="strategies", remedy=remedy)
        self.strategies = tuple(strategies)
