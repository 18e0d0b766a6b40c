r"""From the policy's prediction to a tenant's own answers: empirical-Bayes blending at serving.

A policy knows a new tenant's model and questions from others alone. What the tenant's graded
answers say beside it moves the policy's predictions, the more the more they are. For tenant and
model t and strategy a an offset b_ta is added to the log-odds of the predicted quality q,

    P(answer i is right) = sigmoid(logit(q_i) + b_ta),     b_ta = c_t + d_ta,
    c_t ~ N(0, shared_sd^2),     d_ta ~ N(0, own_sd^2),

so an answer by one strategy says something about all, and most about its own. The offsets are the
posterior's mode and their variance its curvature there (penalised quasi-likelihood: Breslow and
Clayton, JASA 1993): with I the information of the answers, a single one is shrunk to
``S / (I + 1 / sd^2)`` of the score S. How strong the prior is, the two standard deviations, is
estimated from how far all tenants of this server lie from their predictions: the greatest marginal
likelihood of their scores (empirical Bayes; Efron and Morris, JASA 1975; Morris, JASA 1983) on a
grid, drawn to what the recorded data sets show of each other (``STRENGTH``).

Answers on one context are alike: n of them weigh as n / (1 + (n - 1) r), with r the correlation
that the policy found within contexts (Kish's design effect, 1965).

An offset is made of what was judged before the decision, under the same policy version: another
policy starts anew, as it may have learned from these answers already. The decision's record has
the offset, so the decision can be made again from the policy and the record.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from forethought.router.exploration import Z_90, log_odds
from forethought.router.records import Candidate, GradedAnswer, LoggedDecision
from forethought.router.strategies import STRATEGIES

Floats = NDArray[np.float64]

MOST_ANSWERS: Final = 200
"""The latest answers of a tenant that count: what they are like may change."""

MOST_TENANTS: Final = 256
"""Tenants (each with a model) remembered, those judged last: some 12 MB at most."""

_NAMES: Final = tuple(STRATEGIES)
_PLACE: Final = {name: place for place, name in enumerate(_NAMES)}
_GRID: Final = (0.1, 0.2, 0.4, 0.8, 1.6)
_DRAWN: Final = math.log(2.0)
"""How far a standard deviation may be from ``STRENGTH``, in its logarithm: about a factor of 2."""

_FIRST_ESTIMATE: Final = 20
_ITERATIONS: Final = 20


@dataclass(frozen=True, slots=True)
class Strength:
    """How far tenants lie from the policy's predictions: standard deviations in log-odds."""

    shared_sd: float
    own_sd: float

    @property
    def covariance(self) -> Floats:
        """Of the offsets of all strategies, shape (k, k)."""
        k = len(_NAMES)
        return np.full((k, k), self.shared_sd**2) + np.diag(np.full(k, self.own_sd**2))


STRENGTH: Final = Strength(0.4, 0.4)
"""The likeliest for the three recorded data sets, each once predicted by what was fitted on the two
others and once by what was fitted on all three; printed by ``python -m bench.blending``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offset:
    """What a tenant's answers add to the log-odds of one strategy's quality.

    ``n`` of them were this strategy's, right with a share of ``right`` against ``predicted``.
    """

    mean: float = 0.0
    sd: float = 0.0
    n: int = 0
    right: float = 0.0
    predicted: float = 0.0

    def moved(self, quality: float, low: float, high: float) -> tuple[float, float, float]:
        """A quality and its 90% interval, moved by the offset and widened by its uncertainty."""
        centre, wide = log_odds(quality), Z_90 * self.sd
        below, above = centre - log_odds(low), log_odds(high) - centre
        at = centre + self.mean
        return (
            _sigmoid(at) if self.mean else quality,
            _sigmoid(at - math.hypot(below, wide)),
            _sigmoid(at + math.hypot(above, wide)),
        )


Offsets = Mapping[str, Offset]
"""By strategy."""


@dataclass(frozen=True, slots=True)
class _Answer:
    place: int
    predicted: float
    quality: float
    group: str


@dataclass(slots=True)
class _Tenant:
    answers: OrderedDict[str, _Answer] = field(default_factory=OrderedDict)
    offsets: Offsets = field(default_factory=dict)


class Blending:
    """The offsets of all tenants under the policy that serves. For one thread."""

    def __init__(self, strength: Strength = STRENGTH) -> None:
        self.strength = strength
        self._expected = strength
        self._version: str | None = None
        self._correlation = 0.0
        self._tenants: OrderedDict[tuple[str, str], _Tenant] = OrderedDict()
        self._n_judged = 0
        self._estimate_at = _FIRST_ESTIMATE
        self._unknown = self._of_nobody()

    def begin(self, version: str, *, concentration: float) -> None:
        """Serve a policy from now on; nothing is known of anyone's answers by it yet.

        ``concentration`` is that of its contexts (``models.concentration``).
        """
        self._version, self._correlation = version, 1.0 / (1.0 + concentration)
        self._tenants.clear()
        self._n_judged, self._estimate_at = 0, _FIRST_ESTIMATE
        self.strength = self._expected
        self._unknown = self._of_nobody()

    @classmethod
    def of_past(
        cls,
        version: str,
        past: Iterable[GradedAnswer],
        *,
        concentration: float,
        strength: Strength = STRENGTH,
    ) -> Blending:
        """What the log has of ``version``, in the order it was judged; to be adopted by another."""
        found = cls(strength)
        found.begin(version, concentration=concentration)
        for graded in past:
            found._keep(graded)
        found._estimate()
        for tenant in found._tenants.values():
            tenant.offsets = found._solved(tenant)
        return found

    def adopt(self, past: Blending) -> None:
        """Take up what was judged before ``begin``, unless another policy serves by now."""
        if past._version != self._version:
            return
        since, self._tenants = self._tenants, past._tenants
        self.strength, self._unknown = past.strength, past._unknown
        self._n_judged, self._estimate_at = past._n_judged, past._estimate_at
        for key, later in since.items():
            tenant = self._tenants.setdefault(key, _Tenant())
            for decision_id, answer in later.answers.items():
                self._add(tenant, decision_id, answer)
            tenant.offsets = self._solved(tenant)

    def of(self, version: str, tenant: str, model: str) -> Offsets | None:
        """The offsets of a tenant's answers by ``model``; None where another policy serves."""
        if version != self._version:
            return None
        found = self._tenants.get((tenant, model))
        return self._unknown if found is None else found.offsets

    def judged(self, version: str, graded: GradedAnswer) -> None:
        """Count a judgement; a later one of the same answer takes the place of the earlier."""
        if version != self._version:
            return
        tenant = self._keep(graded)
        if tenant is None:
            return
        if self._n_judged >= self._estimate_at:
            self._estimate()
        tenant.offsets = self._solved(tenant)

    def _keep(self, graded: GradedAnswer) -> _Tenant | None:
        raw, place = policy_quality(graded.candidate), _PLACE.get(graded.candidate.strategy)
        if raw is None or place is None:
            return None
        key = (graded.tenant, graded.model)
        tenant = self._tenants.setdefault(key, _Tenant())
        self._tenants.move_to_end(key)
        if len(self._tenants) > MOST_TENANTS:
            self._tenants.popitem(last=False)
        group = graded.context_id or graded.decision_id
        self._add(tenant, graded.decision_id, _Answer(place, raw, graded.quality, group))
        return tenant

    def _add(self, tenant: _Tenant, decision_id: str, answer: _Answer) -> None:
        self._n_judged += decision_id not in tenant.answers
        tenant.answers[decision_id] = answer
        tenant.answers.move_to_end(decision_id)
        if len(tenant.answers) > MOST_ANSWERS:
            tenant.answers.popitem(last=False)

    def _of_nobody(self) -> Offsets:
        sd = round(math.hypot(self.strength.shared_sd, self.strength.own_sd), 4)
        return dict.fromkeys(_NAMES, Offset(sd=sd))

    def _solved(self, tenant: _Tenant) -> Offsets:
        answers = list(tenant.answers.values())
        place, logit, quality, weight = self._arrays(answers)
        mean, sd = posterior(logit, quality, weight, place, self.strength)
        n = np.bincount(place, minlength=len(_NAMES))
        right = np.bincount(place, quality, len(_NAMES)) / np.maximum(n, 1)
        predicted = np.bincount(place, _sigmoids(logit), len(_NAMES)) / np.maximum(n, 1)
        # Rounded, as the record keeps them: what is logged is what was used.
        return {
            name: Offset(
                mean=round(float(mean[i]), 4),
                sd=round(float(sd[i]), 4),
                n=int(n[i]),
                right=round(float(right[i]), 4),
                predicted=round(float(predicted[i]), 4),
            )
            for i, name in enumerate(_NAMES)
        }

    def _arrays(self, answers: list[_Answer]) -> tuple[NDArray[np.intp], Floats, Floats, Floats]:
        """Places, predicted log-odds, qualities and weights of answers, each of shape (n,)."""
        together: dict[str, int] = {}
        for answer in answers:
            together[answer.group] = together.get(answer.group, 0) + 1
        weight = [1.0 / (1.0 + (together[a.group] - 1) * self._correlation) for a in answers]
        return (
            np.array([a.place for a in answers], np.intp),
            np.array([log_odds(a.predicted) for a in answers]),
            np.array([a.quality for a in answers]),
            np.array(weight),
        )

    def _estimate(self) -> None:
        """Estimate the strength anew; seldom, as each time there have to be half as many more."""
        self._estimate_at = max(_FIRST_ESTIMATE, self._n_judged * 3 // 2)
        scores = []
        for tenant in self._tenants.values():
            place, logit, quality, weight = self._arrays(list(tenant.answers.values()))
            scores.append(score(logit, quality, weight, place))
        self.strength = fit_strength(scores, self._expected)
        self._unknown = self._of_nobody()


def policy_quality(candidate: Candidate) -> float | None:
    """What the policy itself predicted, before the tenant's answers moved it."""
    if candidate.quality is None or not candidate.offset:
        return candidate.quality
    return _sigmoid(log_odds(candidate.quality) - candidate.offset)


def graded_answer(logged: LoggedDecision, quality: float) -> GradedAnswer | None:
    """A judged decision as it counts here; None where it says nothing of its policy's prediction.

    As in training: an answer has to be whole, and of the model decided on.
    """
    decision, outcome = logged.decision, logged.outcome
    if outcome is None or outcome.status != "ok" or outcome.model is not None:
        return None
    candidate = next((c for c in decision.candidates if c.strategy == decision.strategy), None)
    if candidate is None or candidate.quality is None:
        return None
    return GradedAnswer(
        decision_id=decision.id,
        tenant=decision.tenant,
        model=decision.model,
        context_id=decision.context_id,
        candidate=candidate,
        quality=quality,
    )


def logged_offsets(candidates: Iterable[Candidate]) -> Offsets:
    """The offsets that a decision's record says it was made with."""
    return {
        c.strategy: Offset(mean=c.offset or 0.0, sd=c.offset_sd)
        for c in candidates
        if c.offset_sd is not None
    }


def posterior(
    logit: Floats, quality: Floats, weight: Floats, place: NDArray[np.intp], strength: Strength
) -> tuple[Floats, Floats]:
    """Mode and standard deviation of the offset of each of k strategies, both of shape (k,).

    Args:
        logit: Log-odds that the policy predicted for each answer, shape (n,).
        quality: In [0, 1], shape (n,).
        weight: How many independent answers each is worth, shape (n,).
        place: Each answer's strategy, shape (n,).
        strength: Of the prior.
    """
    k = len(_NAMES)
    precision = np.linalg.inv(strength.covariance)
    offset = np.zeros(k)
    hessian = precision
    for _ in range(_ITERATIONS):
        p = _sigmoids(logit + offset[place])
        slope = np.bincount(place, weight * (quality - p), k) - precision @ offset
        hessian = np.diag(np.bincount(place, weight * p * (1.0 - p), k)) + precision
        step = np.clip(np.linalg.solve(hessian, slope), -1.0, 1.0)
        offset = offset + step
        if np.abs(step).max() < 1e-6:
            break
    return offset, np.sqrt(np.diag(np.linalg.inv(hessian)))


def score(
    logit: Floats, quality: Floats, weight: Floats, place: NDArray[np.intp]
) -> tuple[Floats, Floats]:
    """Score and information of each strategy's offset at 0, both of shape (k,)."""
    p, k = _sigmoids(logit), len(_NAMES)
    slope = np.bincount(place, weight * (quality - p), k).astype(np.float64)
    return slope, np.bincount(place, weight * p * (1.0 - p), k).astype(np.float64)


def fit_strength(
    scores: Iterable[tuple[Floats, Floats]], expected: Strength | None = None
) -> Strength:
    """The likeliest strength, from each tenant's ``score``; drawn to ``expected`` if given.

    With S the scores and D the diagonal of their informations, ``S ~ N(0, D + D V D)`` for the
    prior's covariance V (to the first order in the offsets).
    """
    grid = [Strength(shared_sd, own_sd) for shared_sd in _GRID for own_sd in _GRID]
    covariances = np.array([one.covariance for one in grid])
    total = np.zeros(len(grid))
    for slope, information in scores:
        total += _log_marginals(slope, information, covariances)
    if expected is not None:
        total -= [
            0.5 * (math.log(one.shared_sd / expected.shared_sd) / _DRAWN) ** 2
            + 0.5 * (math.log(one.own_sd / expected.own_sd) / _DRAWN) ** 2
            for one in grid
        ]
    return grid[int(np.argmax(total))]


def _log_marginals(slope: Floats, information: Floats, covariances: Floats) -> Floats:
    """Of one tenant's scores, (k,), under each of g covariances, (g, k, k): shape (g,)."""
    known = np.flatnonzero(information > 1e-9)
    d, s = information[known], slope[known]
    spread = np.diag(d) + d[:, None] * covariances[:, known[:, None], known] * d
    _, log_determinant = np.linalg.slogdet(spread)
    solved = np.linalg.solve(spread, np.broadcast_to(s[:, None], (len(spread), len(s), 1)))
    return np.asarray(-0.5 * (log_determinant + (solved[..., 0] * s).sum(axis=1)))


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(x, -40.0), 40.0)))


def _sigmoids(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -40.0, 40.0))))
