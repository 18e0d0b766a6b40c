"""What is learned from: aligned arrays out of the log or a file of recorded outcomes.

A row is one answered query. Contexts are never split between training and held-out rows, so that
no policy is ever judged on contexts that it, or the one before it, was fitted on. Two ways:

- ``context``: a context's side depends on its id alone, and stays over repeated retraining.
- ``time``: the contexts that came last are held out. What came later on earlier contexts is on
  neither side: it would tell the training rows about the time that is judged.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from forethought.models.features import FEATURE_VERSION, LEARNABLE_VERSIONS, strategy_features
from forethought.router.records import LoggedDecision, Usage
from forethought.training.signals import (
    EXPLICIT_ONLY,
    NO_SIGNS,
    SIGN_QUALITY,
    Label,
    Signed,
    Signs,
    Weights,
    label,
)

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

HELD_OUT_SHARE: Final = 0.3
"""Of the contexts: less leaves too few to judge a policy by, more too few to fit it on."""

Split = Literal["context", "time"]


@dataclass(frozen=True, slots=True)
class Demand:
    """Queries of each context, how long ago its last was, and the gaps between any two."""

    counts: tuple[int, ...] = ()
    idle_s: tuple[float, ...] = ()
    gaps_s: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """n rows in time order, all arrays of shape (n,).

    Attributes:
        source: Where the rows came from.
        rows: Features by name, without the strategy's own.
        strategies: The strategy that answered each row.
        quality: In [0, 1], NaN where nothing speaks for or against the answer.
        judged_by: Who gave each quality: a source of feedback, or an implicit sign (the names of
            ``signals.SIGN_QUALITY``); empty where nobody did.
        output_tokens: NaN where unknown.
        latency_ms: NaN where unknown.
        cost_usd: NaN where the price is unknown.
        propensity: Of the strategy that answered; NaN for recorded rows, which were not drawn.
        candidate_names: All strategies that any row could have had, k of them.
        candidate_propensities: Shape (n, k), 0 where a strategy was no candidate.
        groups: The context of each row.
        queries: The query (or decision) of each row.
        models: The model that answered.
        usages: The tokens that were read and written.
        created_at: Unix seconds.
        held_out: Whether the row's context is kept away from fitting.
        decisions: The logged decisions themselves; empty for recorded rows.
        demand: Queries per context of the training contexts, and when.
        left_out: How many entries could not be used, by reason.
    """

    source: str
    rows: Sequence[Mapping[str, float]]
    strategies: Sequence[str]
    quality: Floats
    judged_by: Sequence[str]
    output_tokens: Floats
    latency_ms: Floats
    cost_usd: Floats
    propensity: Floats
    candidate_names: tuple[str, ...]
    candidate_propensities: Floats
    groups: Sequence[str]
    queries: Sequence[str]
    models: Sequence[str]
    usages: Sequence[Usage]
    created_at: Floats
    held_out: Flags
    decisions: Sequence[LoggedDecision] = ()
    demand: Demand = Demand()
    left_out: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.strategies)

    @property
    def n_contexts(self) -> int:
        return len(set(self.groups))

    @property
    def recorded(self) -> bool:
        """Whether the rows are recorded outcomes, not logged decisions."""
        return not self.decisions

    @property
    def n_by_earlier_version(self) -> int:
        """The rows whose features an earlier version computed: the newer ones are missing there."""
        return sum(one.decision.feature_version != FEATURE_VERSION for one in self.decisions)

    @property
    def train(self) -> Dataset:
        """The rows to fit on."""
        return self.take(~self.held_out)

    @property
    def test(self) -> Dataset:
        """The held-out rows."""
        return self.take(self.held_out)

    @property
    def explicit(self) -> Dataset:
        """The same rows, their quality known only where it was judged: what policies are judged by.

        Implicit signs teach; as evidence for a promotion they are too weak.
        """
        implicit = np.array([who in SIGN_QUALITY for who in self.judged_by], dtype=bool)
        if not implicit.any():
            return self
        return replace(
            self,
            quality=np.where(implicit, math.nan, self.quality),
            judged_by=[
                "" if drop else who
                for who, drop in zip(self.judged_by, implicit.tolist(), strict=True)
            ],
        )

    def take(self, chosen: Flags) -> Dataset:
        """The rows where ``chosen`` is true."""
        kept = np.flatnonzero(chosen).tolist()
        return replace(
            self,
            rows=[self.rows[i] for i in kept],
            strategies=[self.strategies[i] for i in kept],
            quality=self.quality[kept],
            judged_by=[self.judged_by[i] for i in kept],
            output_tokens=self.output_tokens[kept],
            latency_ms=self.latency_ms[kept],
            cost_usd=self.cost_usd[kept],
            propensity=self.propensity[kept],
            candidate_propensities=self.candidate_propensities[kept],
            groups=[self.groups[i] for i in kept],
            queries=[self.queries[i] for i in kept],
            models=[self.models[i] for i in kept],
            usages=[self.usages[i] for i in kept],
            created_at=self.created_at[kept],
            held_out=self.held_out[kept],
            decisions=[self.decisions[i] for i in kept] if self.decisions else (),
        )

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of all that is learned from: equal data, equal fingerprint."""
        digest = hashlib.sha256(FEATURE_VERSION.encode())
        for index, row in enumerate(self.rows):
            keys = [self.groups[index], self.queries[index], self.strategies[index]]
            digest.update(json.dumps([keys, sorted(row.items())]).encode())
        for array in (self.quality, self.output_tokens, self.latency_ms, self.cost_usd):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(
            json.dumps([self.demand.counts, self.demand.idle_s, self.demand.gaps_s]).encode()
        )
        return digest.hexdigest()[:16]


def is_held_out(context_id: str, share: float = HELD_OUT_SHARE) -> bool:
    """Whether a context is kept for evaluation; it depends on nothing but its id."""
    first = hashlib.sha256(context_id.encode()).digest()[:8]
    return int.from_bytes(first, "big") < share * 2**64


def from_log(
    decisions: Iterable[LoggedDecision],
    *,
    source: str = "log",
    weights: Weights = EXPLICIT_ONLY,
    split: Split = "context",
) -> Dataset:
    """The dataset of logged decisions in time order (``LogReader.logged_decisions()``).

    Reads no signs from what followed: ``from_signed`` does, on pairs of ``signals.with_signs``.
    """
    pairs = ((logged, NO_SIGNS) for logged in decisions)
    return from_signed(pairs, source=source, weights=weights, split=split)


def from_signed(
    pairs: Iterable[Signed],
    *,
    source: str,
    weights: Weights = EXPLICIT_ONLY,
    split: Split = "context",
) -> Dataset:
    """The dataset of logged decisions in time order, each with what followed it.

    Left out, and counted: decisions without an outcome, with an outcome other than ``ok`` (but
    for streams that the client left, which say something about quality alone), of a
    feature version that is not in ``LEARNABLE_VERSIONS`` or without features. A decision without a
    context (or whose context was deleted) is a context of its own.
    """
    left_out: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    last_at: dict[str, float] = {}
    gaps_s: defaultdict[str, list[float]] = defaultdict(list)
    used: list[LoggedDecision] = []
    labels: list[Label | None] = []
    groups: list[str] = []
    for logged, signs in pairs:
        decision = logged.decision
        if decision.context_id is not None:
            counts[decision.context_id] += 1
            if decision.context_id in last_at:
                # Several processes' clocks: a query may be logged as before the one before.
                gap_s = max(0.0, decision.created_at - last_at[decision.context_id])
                gaps_s[decision.context_id].append(gap_s)
            last_at[decision.context_id] = decision.created_at
        said = label(logged, signs, weights)
        why = _unusable(logged, signs, said)
        if why is not None:
            left_out[why] += 1
            continue
        used.append(logged)
        labels.append(said)
        groups.append(decision.context_id or f"decision:{decision.id}")
    created_at = _floats([one.decision.created_at for one in used])
    held_out, kept = _sides(groups, created_at, split)
    if not kept.all():
        left_out["a time after the cut on a context from before it"] = int((~kept).sum())
    judged = {
        group for group, out, keep in zip(groups, held_out, kept, strict=True) if out and keep
    }
    to_fit = [
        context
        for context in counts
        if (context not in judged if split == "time" else not is_held_out(context))
    ]
    end = max(last_at.values(), default=0.0)
    names = tuple(sorted({c.strategy for one in used for c in one.decision.candidates}))
    outcomes = [one.outcome if _whole(one) else None for one in used]
    quality = _quality(labels, ~held_out)
    dataset = Dataset(
        source=source,
        rows=[one.decision.features for one in used],
        strategies=[one.decision.strategy for one in used],
        quality=quality,
        judged_by=["" if said is None else said.source for said in labels],
        # A reply without a usage block is logged with zeros: unknown, not empty.
        output_tokens=_floats([o.usage.output_tokens or None if o else None for o in outcomes]),
        latency_ms=_floats([o.latency_ms if o else None for o in outcomes]),
        cost_usd=_floats([o.cost_usd if o else None for o in outcomes]),
        propensity=_floats([one.decision.propensity for one in used]),
        candidate_names=names,
        candidate_propensities=_propensities(used, names),
        groups=groups,
        queries=[one.decision.id for one in used],
        models=[one.decision.model for one in used],
        usages=[Usage() if one is None else one.usage for one in outcomes],
        created_at=created_at,
        held_out=held_out,
        decisions=used,
        demand=Demand(
            counts=tuple(counts[context] for context in to_fit),
            idle_s=tuple(max(0.0, end - last_at[context]) for context in to_fit),
            gaps_s=tuple(gap for context in to_fit for gap in gaps_s[context]),
        ),
        left_out=dict(left_out),
    )
    return dataset if kept.all() else dataset.take(kept)


def _sides(groups: Sequence[str], created_at: Floats, split: Split) -> tuple[Flags, Flags]:
    """Which rows are held out, and which are on any side at all."""
    n = len(groups)
    if split == "context":
        held_out = np.array([is_held_out(group) for group in groups], dtype=bool)
        return held_out, np.ones(n, dtype=bool)
    began: dict[str, float] = {}
    for group, at in zip(groups, created_at.tolist(), strict=True):
        began.setdefault(group, at)
    if not began:
        return np.zeros(0, dtype=bool), np.ones(0, dtype=bool)
    starts = np.sort(np.array(list(began.values())))
    cut = float(starts[min(len(starts) - 1, round((1 - HELD_OUT_SHARE) * len(starts)))])
    late = np.array([began[group] >= cut for group in groups], dtype=bool)
    return late, late | (created_at < cut)


def _quality(labels: Sequence[Label | None], to_fit: Flags) -> Floats:
    """The labels' quality, implicit ones drawn towards the mean of the explicit ones to fit on."""
    said = _floats([None if one is None else one.quality for one in labels])
    weight = np.array([1.0 if one is None else one.weight for one in labels])
    sure = said[
        [
            keep and one is not None and one.source not in SIGN_QUALITY
            for keep, one in zip(to_fit.tolist(), labels, strict=True)
        ]
    ]
    base = float(sure.mean()) if len(sure) else 0.5
    return np.asarray(base + weight * (said - base))


def _whole(logged: LoggedDecision) -> bool:
    """Whether the answer was given to its end: else its tokens and its time say nothing."""
    return logged.outcome is not None and logged.outcome.status == "ok"


def _unusable(logged: LoggedDecision, signs: Signs, said: Label | None) -> str | None:
    decision, outcome = logged.decision, logged.outcome
    if decision.feature_version not in LEARNABLE_VERSIONS:
        return f"features of version {decision.feature_version}, not {FEATURE_VERSION}"
    if outcome is None:
        return "no outcome yet"
    if outcome.status != "ok" and not (signs.abandoned and said is not None):
        return f"outcome {outcome.status}"
    if outcome.model is not None:
        return "the answer of a fallback, not of the model decided on"
    if not decision.features:
        return "no features"
    try:
        strategy_features(decision.strategy)
    except ValueError:
        return f"strategy {decision.strategy}, unknown to this version"
    return None


def _propensities(used: Sequence[LoggedDecision], names: Sequence[str]) -> Floats:
    column = {name: index for index, name in enumerate(names)}
    found = np.zeros((len(used), len(names)))
    for index, logged in enumerate(used):
        for candidate in logged.decision.candidates:
            found[index, column[candidate.strategy]] = candidate.propensity
    return found


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)
