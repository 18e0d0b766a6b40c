r"""Judge on the contexts that the fit itself uses, too: each by a policy that has not seen them.

With three contexts in ten held out, seven teach and prove nothing. But what is fitted on the first
k blocks of contexts can be judged on the block after them, then on one more, and so on (progressive
validation, Blum, Kalai and Langford 1999; Dawid's prequential principle, 1984). The last stage is
the candidate itself, fitted on all of them, on the contexts that are held out from it.

The blocks are random (a context's place depends on its id alone) and are judged in their order.
Given all that came before, a stage's policy is fixed and its contexts are new to it, so bets on one
stage after the other are bets of one game, and ``betting`` holds without any approximation: **if no
stage's policy is better than the champion, the gate passes with probability alpha at most.** What a
pass then says is that some stage's policy is better. That the candidate, which was fitted like them
on more contexts, is no worse than they are is an assumption; the gate checks it as far as it can,
on the candidate's own held-out contexts, where it must gain as well.

Contexts that the champion was fitted on are no evidence, as it would look better on them than it
is. They are in every stage's fit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from forethought.models.bundle import PolicyBundle
from forethought.training.dataset import Dataset, Flags
from forethought.training.errors import TrainingError

N_STAGES: Final = 4
"""Before the candidate's own: with each, one more policy is fitted on a part of the contexts."""

ONLY_FITTED: Final = 0.3
"""Of the contexts that could be judged, those that begin: fewer teach nothing worth judging."""

Fit = Callable[[Dataset], PolicyBundle]


@dataclass(frozen=True, slots=True)
class Stage:
    """A policy and the decisions to judge it by: on contexts that it was not fitted on."""

    judged: Dataset
    policy: PolicyBundle


@dataclass(frozen=True, slots=True)
class Block:
    """Which rows a stage's policy is fitted on, and which ones judge it, each of shape (n,)."""

    fitted: Flags
    judged: Flags


def blocks(
    groups: Sequence[str], *, held_out: Flags, seen: Flags, n_stages: int = N_STAGES
) -> list[Block]:
    """Cut the contexts that are not held out into stages.

    Args:
        groups: The context of each row, shape (n,).
        held_out: Rows of neither kind in any stage, shape (n,).
        seen: Rows on contexts that the champion was fitted on: fitted on, never judged; shape (n,).
        n_stages: At most so many; one without contexts is left out.
    """
    place = np.array([place_of(group) for group in groups])
    free = ~held_out & ~seen
    cuts = np.linspace(ONLY_FITTED, 1.0, n_stages + 1)
    found = [
        Block(
            fitted=~held_out & (seen | (place < start)),
            judged=free & (start <= place) & (place < end),
        )
        for start, end in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
    ]
    return [block for block in found if block.judged.any()]


def stages(
    dataset: Dataset, fit: Fit, champion: PolicyBundle | None, *, n_stages: int = N_STAGES
) -> list[Stage]:
    """Fit and cut; stages with too few rows to fit are left out.

    Only explicit judgements are fitted on here: labels by implicit signs are drawn towards the mean
    of all explicit ones, also of those to come.

    Args:
        dataset: Of the log. Nothing of its held-out contexts is used.
        fit: Fits a policy on the training rows of a dataset, as the candidate was.
        champion: The one that serves.
        n_stages: At most so many.
    """
    seen = seen_by(champion, dataset)
    found = []
    for block in blocks(dataset.groups, held_out=dataset.held_out, seen=seen, n_stages=n_stages):
        part = replace(dataset, held_out=block.judged).take(block.fitted | block.judged).explicit
        try:
            found.append(Stage(judged=part.test, policy=fit(part)))
        except TrainingError:  # whether there are rows enough says nothing about what they earned
            continue
    return found


def seen_by(champion: PolicyBundle | None, dataset: Dataset) -> Flags:
    """Rows on contexts that the champion may have been fitted on, shape (n,)."""
    data = {} if champion is None else champion.manifest.get("info", {}).get("data", {})
    if not data or data.get("recorded", True):
        return np.zeros(len(dataset), dtype=bool)
    old = dataset.created_at <= float(data.get("until", np.inf))
    known = {group for group, was in zip(dataset.groups, old.tolist(), strict=True) if was}
    return np.array([group in known for group in dataset.groups], dtype=bool)


def place_of(context_id: str) -> float:
    """A number in [0, 1) by a context's id, independent of whether it is held out."""
    return int.from_bytes(hashlib.sha256(context_id.encode()).digest()[16:24], "big") / 2**64
