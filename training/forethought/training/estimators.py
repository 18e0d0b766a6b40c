r"""Off-policy estimators, by scikit-learn's conventions, on plain arrays.

What an estimator needs of a logged decision are four numbers, so a ``Sample`` of n decisions is
four arrays of shape (n,), whatever the number of strategies k; ``Sample.of`` makes it from the
arrays of the log and ``Sample.concatenate`` from parts of a log that is too large to hold.

    sample = Sample.of(reward, action, propensity, target, predicted)
    DRos(shrinkage=10.0).fit(sample).value_

Each estimator has ``terms_`` of shape (n,), whose mean is the estimate ``value_``: give them to
the intervals. Those of the self-normalised ones are linearised (delta method), for the
approximate intervals only.

Notation as in ``forethought.training.ope``: ``w_i`` the weight, ``r_i`` the reward, ``q_i(a)``
the predicted reward, ``d_i = sum_a t_i(a) q_i(a)`` what the target policy is predicted to earn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from forethought.training.ope import CHUNK_ROWS, Floats, column, taken_propensity

_GRID_SIZE: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What estimators need of n logged decisions, each of shape (n,).

    Attributes:
        reward: What each decision earned.
        weight: ``w_i = t_i(a_i) / p_i(a_i)``.
        predicted: ``q_i(a_i)``, the reward predicted for the action taken; 0 without a model.
        direct: ``d_i = sum_a t_i(a) q_i(a)``; 0 without a model.
    """

    reward: Floats
    weight: Floats
    predicted: Floats
    direct: Floats

    def __len__(self) -> int:
        return len(self.reward)

    @classmethod
    def of(
        cls,
        reward: ArrayLike,
        action: ArrayLike,
        propensity: ArrayLike,
        target: ArrayLike,
        predicted: ArrayLike | None = None,
    ) -> Self:
        """Reduce a log to what is needed of it.

        Args:
            reward: What each decision earned, shape (n,).
            action: Index of the action taken, shape (n,).
            propensity: The logged probability of the action taken, shape (n,), or of every
                action, shape (n, k). Above 0 for the action taken.
            target: The target policy's probability of every action, shape (n, k).
            predicted: ``q_i(a)``, shape (n, k), fitted on other contexts (``CrossFit``).

        Raises:
            ValueError: Shapes that disagree, a reward that is NaN, or a propensity of 0.
        """
        t = np.asarray(target)
        a, p = taken_propensity(action, propensity, t.shape)
        r, rows = column("reward", reward, p), np.arange(len(p))
        taken, direct = np.zeros(len(p)), np.zeros(len(p))
        if predicted is not None:
            q = np.asarray(predicted)
            if q.shape != t.shape:
                message = f"predicted has shape {q.shape}, not {t.shape}"
                raise ValueError(message)
            taken = np.asarray(q[rows, a], np.float64)
            for start in range(0, len(p), CHUNK_ROWS):
                part = slice(start, start + CHUNK_ROWS)
                np.einsum("ij,ij->i", t[part], q[part], out=direct[part], casting="same_kind")
        return cls(reward=r, weight=t[rows, a] / p, predicted=taken, direct=direct)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """One sample of several, in order."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})


class OffPolicyEstimator(BaseEstimator):  # type: ignore[misc] # scikit-learn ships no types
    """What all estimators share: ``fit`` sets ``value_`` and ``terms_``; ``estimate`` is both.

    Attributes:
        value_: The estimate of the target policy's mean reward.
        terms_: Shape (n,); their mean is ``value_``.
    """

    value_: float
    terms_: Floats

    def fit(self, sample: Sample) -> Self:
        """Estimate from a sample; returns itself."""
        self.terms_ = self.terms(sample)
        self.value_ = float(self.terms_.mean())
        return self

    def estimate(self, sample: Sample) -> float:
        """The target policy's mean reward, in the reward's unit."""
        return self.fit(sample).value_

    def terms(self, sample: Sample) -> Floats:
        """One number a decision, shape (n,), whose mean is the estimate."""
        raise NotImplementedError


class DirectMethod(OffPolicyEstimator):
    r"""DM: ``mean d_i``. As biased as the predictions, varies least.

    Source: Dudik, Langford and Li 2011, section 2.1.
    """

    def terms(self, sample: Sample) -> Floats:
        return sample.direct


class IPS(OffPolicyEstimator):
    r"""Inverse propensity scores: ``mean w_i r_i``. Unbiased where there is support.

    Source: Horvitz and Thompson 1952; Dudik, Langford and Li 2011, section 2.2.
    """

    def terms(self, sample: Sample) -> Floats:
        return sample.weight * sample.reward


class SNIPS(OffPolicyEstimator):
    r"""Self-normalised IPS: ``v = sum w_i r_i / sum w_i``, bias of order 1/n.

    Terms: ``v + w_i (r_i - v) / mean(w)``.

    Source: Swaminathan and Joachims 2015, equation 9.
    """

    def terms(self, sample: Sample) -> Floats:
        w, mean = sample.weight, _mean_weight(sample)
        value = float(np.dot(w, sample.reward)) / (len(w) * mean)
        return np.asarray(value + w * (sample.reward - value) / mean)


class DR(OffPolicyEstimator):
    r"""Doubly robust: ``mean d_i + w_i (r_i - q_i(a_i))``. Unbiased; varies less than IPS.

    Source: Dudik, Langford and Li 2011, equation 2.
    """

    def terms(self, sample: Sample) -> Floats:
        return sample.direct + sample.weight * (sample.reward - sample.predicted)


class SNDR(OffPolicyEstimator):
    r"""Self-normalised DR: ``mean d_i + c``, ``c = sum w_i (r_i - q_i(a_i)) / sum w_i``.

    Terms: ``d_i + c + w_i (r_i - q_i(a_i) - c) / mean(w)``.

    Source: Thomas and Brunskill 2016 (their weighted doubly robust, for one step).
    """

    def terms(self, sample: Sample) -> Floats:
        w, mean = sample.weight, _mean_weight(sample)
        residual = sample.reward - sample.predicted
        correction = float(np.dot(w, residual)) / (len(w) * mean)
        return np.asarray(sample.direct + correction + w * (residual - correction) / mean)


class ReweightedDR(OffPolicyEstimator):
    """DR with ``g(w_i)`` for ``w_i``: less variance, for a bias that one parameter sets.

    The larger the parameter, the nearer to the unbiased estimator.
    """

    parameter: str

    def weights(self, weight: Floats) -> Floats:
        """``g(w_i)``, shape (n,)."""
        raise NotImplementedError

    def terms(self, sample: Sample) -> Floats:
        return sample.direct + self.weights(sample.weight) * (sample.reward - sample.predicted)

    def bias_terms(self, sample: Sample) -> Floats:
        """``(g(w_i) - w_i)(r_i - q_i(a_i))``, shape (n,); their mean estimates the bias."""
        change = self.weights(sample.weight) - sample.weight
        return np.asarray(change * (sample.reward - sample.predicted))

    def grid(self, sample: Sample) -> list[float]:
        """Values of the parameter worth trying, from the least to the most variance."""
        most = float(np.abs(sample.weight).max(initial=1.0))
        return [*np.geomspace(min(0.5, most / 2), most, _GRID_SIZE - 1).tolist(), float("inf")]


class ClippedIPS(ReweightedDR):
    r"""``mean min(w_i, clip) r_i``: biased downwards for positive rewards.

    Args:
        clip: The largest weight that counts, above 0.

    Source: Ionides 2008; Bottou et al. 2013, section 4.4.
    """

    parameter = "clip"

    def __init__(self, *, clip: float = 10.0) -> None:
        self.clip = clip

    def weights(self, weight: Floats) -> Floats:
        _not_below("clip", self.clip, 0.0, open_=True)
        return np.clip(weight, -self.clip, self.clip)

    def terms(self, sample: Sample) -> Floats:
        return self.weights(sample.weight) * sample.reward

    def bias_terms(self, sample: Sample) -> Floats:
        return np.asarray((self.weights(sample.weight) - sample.weight) * sample.reward)


class SwitchDR(ReweightedDR):
    r"""DR where the weight is at most ``tau``, DM where it is above.

    ``mean d_i + w_i 1[w_i <= tau] (r_i - q_i(a_i))``; tau = infinity is DR, tau = 0 is DM.

    Args:
        tau: The largest weight that is trusted, 0 or more.

    Source: Wang, Agarwal and Dudik 2017, equation 8 with DR in IPS's place (their section 5).
    """

    parameter = "tau"

    def __init__(self, *, tau: float = 10.0) -> None:
        self.tau = tau

    def weights(self, weight: Floats) -> Floats:
        _not_below("tau", self.tau, 0.0)
        return np.where(np.abs(weight) <= self.tau, weight, 0.0)


class DRos(ReweightedDR):
    r"""DR with optimistic shrinkage: ``g(w) = lambda w / (w^2 + lambda)``.

    lambda = infinity is DR, lambda = 0 is DM.

    Args:
        shrinkage: lambda, 0 or more.

    Source: Su, Dimakopoulou, Krishnamurthy and Dudik 2020, equation 5.
    """

    parameter = "shrinkage"

    def __init__(self, *, shrinkage: float = 10.0) -> None:
        self.shrinkage = shrinkage

    def weights(self, weight: Floats) -> Floats:
        _not_below("shrinkage", self.shrinkage, 0.0)
        if np.isinf(self.shrinkage):
            return weight
        if self.shrinkage == 0:
            return np.zeros_like(weight)
        return np.asarray(self.shrinkage * weight / (weight**2 + self.shrinkage))

    def grid(self, sample: Sample) -> list[float]:
        # g bends at w = sqrt(lambda).
        return [value**2 for value in super().grid(sample)]


def _mean_weight(sample: Sample) -> float:
    mean = float(sample.weight.mean())
    if not mean > 0:
        message = "the weights must not all be 0: no logged action is one of the policy's"
        raise ValueError(message)
    return mean


def _not_below(name: str, value: float, least: float, *, open_: bool = False) -> None:
    if np.isnan(value) or value < least or (open_ and value == least):
        message = f"{name} must be {'above' if open_ else 'at least'} {least:g}, not {value:g}"
        raise ValueError(message)
