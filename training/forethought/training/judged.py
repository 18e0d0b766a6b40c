"""The decisions that judge a policy: which ones count, what they earned, what both would have done.

The utility of an answer is ``U = value_usd * quality - cost_usd - latency_usd_per_s * latency``.
Judged are decisions that a policy drew (not those that the client forced, nor fallbacks) and
whose quality is known; all others are counted. This takes the quality to be known or not for
reasons that the features and the strategy explain. What sleep cost is not in U: it is paid per
context, whichever strategy answers afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from forethought.models.bundle import PolicyBundle
from forethought.models.features import matrix, strategy_features
from forethought.router.allocation import Preferences
from forethought.router.records import LoggedDecision
from forethought.training import ope
from forethought.training.dataset import Dataset
from forethought.training.errors import SupportError, TrainingError
from forethought.training.progressive import Stage

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Target = Callable[[LoggedDecision, PolicyBundle], Mapping[str, float]]
"""With which probability a policy would have chosen each strategy for a logged decision."""

_DRAWN: Final = frozenset({"greedy", "explored"})
_SAME: Final = 1e-9


class AsLogged:
    """As a champion: whatever served, with the probabilities that the log holds."""

    version: Final = "as logged"


AS_LOGGED: Final = AsLogged()
Champion = PolicyBundle | AsLogged | None
"""None: always ``direct``, as without any policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """n decisions to judge one policy by, beside the champion.

    ``p``, ``new`` and ``old`` have shape (n, k). ``rewards``: what was earned, (n,), and what was
    predicted for every strategy, (n, k), by ``utility``, ``quality`` and ``latency``.
    """

    groups: Sequence[str]
    action: Codes
    p: Floats
    new: Floats
    old: Floats
    rewards: Mapping[str, tuple[Floats, Floats]]

    @classmethod
    def joined(cls, parts: Sequence[Judged]) -> Judged:
        return cls(
            groups=[group for part in parts for group in part.groups],
            action=np.concatenate([part.action for part in parts]),
            p=np.vstack([part.p for part in parts]),
            new=np.vstack([part.new for part in parts]),
            old=np.vstack([part.old for part in parts]),
            rewards={
                name: (
                    np.concatenate([part.rewards[name][0] for part in parts]),
                    np.vstack([part.rewards[name][1] for part in parts]),
                )
                for name in parts[0].rewards
            },
        )

    @property
    def n_new(self) -> int:
        taken = np.arange(len(self.action)), self.action
        return int(((self.new - self.old)[taken] > _SAME).sum())

    @property
    def n_differ(self) -> int:
        return int((np.abs(self.new - self.old).max(axis=1) > _SAME).sum())


def judged(
    test: Dataset,
    policy: PolicyBundle,
    champion: Champion,
    preferences: Preferences,
    target: Target,
    low: float,
) -> Judged:
    """What the rows of ``test`` say; utilities below ``low`` are cut."""
    names, p = test.candidate_names, test.candidate_propensities
    new, old = (_targets(test, one, target) for one in (policy, champion))
    for probabilities in (new, old):
        ope.check_support(p, probabilities, names=names)
    quality, earned, latency = _predictions(test, policy, preferences)
    most = preferences.value_usd
    return Judged(
        groups=test.groups,
        action=np.array([names.index(strategy) for strategy in test.strategies], dtype=np.intp),
        p=p,
        new=new,
        old=old,
        rewards={
            "utility": (
                np.clip(utility(test, preferences), low, most), np.clip(earned, low, most)
            ),
            "quality": (test.quality, quality),
            "latency": (test.latency_ms, latency),
        },
    )  # fmt: skip


def judgeable_stages(
    stages: Sequence[Stage], since: float | None, *, cost_known: bool
) -> list[tuple[Dataset, PolicyBundle]]:
    """The decisions of each stage that count; one without any, or with other costs, is left out."""
    found = []
    for stage in stages:
        try:
            rows, _, known = judgeable(stage.judged, since)
        except TrainingError:
            continue
        if known == cost_known:
            found.append((rows, stage.policy))
    return found


def usual_rows(groups: Sequence[str]) -> int:
    """Rows that nine in ten contexts have at most: of the training contexts, to cap others by."""
    if not groups:
        return 1
    sizes = list(Counter(groups).values())
    return int(np.quantile(sizes, 0.9, method="higher"))


def latency_ceiling(train: Dataset) -> float:
    """Above this, latencies are cut: twice the greatest among the training rows, in ms."""
    known = train.latency_ms[~np.isnan(train.latency_ms)]
    return 2.0 * float(known.max(initial=0.0))


def utility(dataset: Dataset, preferences: Preferences) -> Floats:
    """U of each row in USD, shape (n,); NaN where the quality is unknown.

    A cost that is unknown is left out, as it is when serving.
    """
    return np.asarray(preferences.value_usd * dataset.quality - _expense(dataset, preferences))


def utility_floor(train: Dataset, preferences: Preferences) -> float:
    """Below this, utilities are cut: twice the greatest expense among the training rows.

    A bound on the mean needs one on each value, and the held-out rows must not set it.
    """
    expense = _expense(train, preferences)
    return -2.0 * float(expense.max()) if len(expense) else -preferences.value_usd


def _expense(dataset: Dataset, preferences: Preferences) -> Floats:
    seconds = np.nan_to_num(dataset.latency_ms) / 1000.0
    return np.asarray(np.nan_to_num(dataset.cost_usd) + preferences.latency_usd_per_s * seconds)


def judgeable(held_out: Dataset, since: float | None) -> tuple[Dataset, dict[str, int], bool]:
    """The decisions that count, why others do not, and whether their costs are known."""
    reasons = [
        "made before the champion served, which they helped to choose"
        if since is not None and held_out.created_at[i] <= since
        else _why_not(
            held_out.decisions[i], held_out.quality[i], held_out.candidate_propensities[i]
        )
        for i in range(len(held_out))
    ]
    kept = np.array([reason is None for reason in reasons], dtype=bool)
    left_out = Counter(reason for reason in reasons if reason is not None)
    # Some prices known and some not would favour the strategies of unknown cost.
    unpriced = np.isnan(held_out.cost_usd) & kept
    cost_known = not np.array_equal(unpriced, kept)
    if cost_known and unpriced.any():
        left_out["cost unknown"] += int(unpriced.sum())
        kept &= ~unpriced
    if not kept.any():
        said = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise TrainingError(
            "No held-out decision can be judged"
            + (f" (left out: {said})." if said else ": the log has none."),
            remedy="Give feedback on decisions that the router drew, on more contexts.",
        )
    return held_out.take(kept), dict(left_out), cost_known


def _why_not(logged: LoggedDecision, quality: float, propensities: Floats) -> str | None:
    decision = logged.decision
    if decision.mode not in _DRAWN:
        return f"{decision.mode}, not drawn by a policy"
    if np.isnan(quality):
        return "without feedback"
    said = {c.strategy: c.propensity for c in decision.candidates}.get(decision.strategy)
    if said is None or abs(said - decision.propensity) > 1e-6 or abs(propensities.sum() - 1) > 1e-6:
        return "with propensities that do not add up"
    return None


def _targets(test: Dataset, bundle: Champion, target: Target) -> Floats:
    if isinstance(bundle, AsLogged):
        return test.candidate_propensities
    column = {name: index for index, name in enumerate(test.candidate_names)}
    found = np.zeros((len(test), len(column)))
    if bundle is None:
        if "direct" in column:
            found[:, column["direct"]] = 1.0
            return found
        raise SupportError(
            "The log has no decision for which direct was a candidate.",
            strategies=["direct"],
            remedy="Serve for a while, then train again.",
        )
    for index, logged in enumerate(test.decisions):
        for name, probability in target(logged, bundle).items():
            if name in column:
                found[index, column[name]] = probability
            elif probability > 0:
                raise SupportError(
                    f"The policy would choose {name}, which no logged decision could.",
                    strategies=[name],
                    remedy="Serve with it allowed for a while, then train again.",
                )
    return found


def _predictions(
    test: Dataset, bundle: PolicyBundle, preferences: Preferences
) -> tuple[Floats, Floats, Floats]:
    """Predicted quality, utility and latency (ms) of every candidate, shape (n, k); else 0."""
    known = [name for name in test.candidate_names if _is_known(name)]
    quality = np.zeros(test.candidate_propensities.shape)
    earned, latency = np.zeros_like(quality), np.zeros_like(quality)
    logged_cost = [
        {c.strategy: c.cost_usd or 0.0 for c in one.decision.candidates} for one in test.decisions
    ]
    for name in known:
        column = test.candidate_names.index(name)
        predicted = bundle.outcome.predict(matrix(test.rows, [name] * len(test)))
        cost = np.array([costs.get(name, 0.0) for costs in logged_cost])
        quality[:, column] = predicted.quality
        latency[:, column] = predicted.latency_ms
        earned[:, column] = (
            preferences.value_usd * predicted.quality
            - cost
            - preferences.latency_usd_per_s * predicted.latency_ms / 1000.0
        )
    return quality, earned, latency


def _is_known(strategy: str) -> bool:
    try:
        strategy_features(strategy)
    except ValueError:
        return False
    return True


def rows_of(groups: Sequence[str]) -> dict[str, list[int]]:
    """The indices of each group's rows, in order."""
    found: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        found.setdefault(group, []).append(index)
    return found
