r"""Off-policy estimates on plain arrays: what a policy would have earned, from another's log.

Notation: n logged decisions, k strategies (actions). Decision i was answered by action
``a_i``, drawn with the logged propensity ``p_i(a)``, and earned ``r_i``. The target policy
would have drawn it with ``t_i(a)``; the weight is ``w_i = t_i(a_i) / p_i(a_i)``.

``forethought.training.estimators`` has these and more as classes with ``fit``. Every function
here but ``importance_weights`` and ``snips`` is linear in ``target``: give it the
difference of two policies to estimate the difference of their values from the same rows, which
varies far less than the two apart.

Sources: Horvitz and Thompson 1952 (IPS); Ionides 2008, Bottou et al. 2013 (clipping);
Swaminathan and Joachims 2015 (SNIPS); Dudik, Langford and Li 2011 (DR).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forethought.training.errors import SupportError

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

CHUNK_ROWS: Final = 500_000
"""Rows of (n, k) products made at once: 32 MB each for eight strategies."""

_ROUNDING: Final = 1e-6
"""How far a row of probabilities may be from summing to 1."""


def check_support(
    propensities: ArrayLike, target: ArrayLike, *, names: Sequence[str] | None = None
) -> None:
    """Require that the log gave a chance to whatever the target policy may do.

    Args:
        propensities: Logged probability of every action, shape (n, k).
        target: The target policy's, shape (n, k).
        names: What the k actions are called in the error.

    Raises:
        SupportError: ``t_i(a) > 0`` where ``p_i(a) = 0``; it names each such action.
    """
    p, t = _probabilities("propensities", propensities), _probabilities("target", target)
    _same_shape(p, t)
    missing = (t > _ROUNDING) & (p <= 0)
    counts = missing.sum(axis=0)
    if not counts.any():
        return
    called = names if names is not None else [str(action) for action in range(p.shape[1])]
    lacking = [(called[a], int(counts[a])) for a in np.flatnonzero(counts).tolist()]
    said = ", ".join(f"{name} (in {count} of {len(p)} decisions)" for name, count in lacking)
    raise SupportError(
        f"The log cannot tell what the policy would do: it gave no chance to {said}.",
        strategies=[name for name, _ in lacking],
        remedy="Serve with exploration above 0 for a while, then train again.",
    )


def importance_weights(action: ArrayLike, propensities: ArrayLike, target: ArrayLike) -> Floats:
    r"""``w_i = t_i(a_i) / p_i(a_i)``, shape (n,). For a difference of policies, may be negative.

    Args:
        action: Index of the action taken, shape (n,).
        propensities: Logged probability of every action, shape (n, k).
        target: The target policy's, or a difference of two policies', shape (n, k).
    """
    p, t = np.asarray(propensities, np.float64), np.asarray(target, np.float64)
    _same_shape(p, t)
    a = _actions(action, p)
    rows = np.arange(len(a))
    taken = p[rows, a]
    if np.any(taken <= 0):
        message = f"row {int(np.argmin(taken))}: the action taken has propensity 0"
        raise ValueError(message)
    return np.asarray(t[rows, a] / taken)


def ips_terms(reward: ArrayLike, weights: ArrayLike) -> Floats:
    r"""``w_i r_i``; their mean is the IPS estimate, unbiased where there is support.

    Args:
        reward: What each decision earned, shape (n,).
        weights: Of ``importance_weights``, shape (n,).
    """
    return column("reward", reward, weights) * np.asarray(weights, np.float64)


def clipped_ips_terms(reward: ArrayLike, weights: ArrayLike, *, clip: float) -> Floats:
    r"""``min(w_i, clip) r_i``: less variance than IPS, biased downwards for positive rewards.

    Args:
        reward: What each decision earned, shape (n,).
        weights: Of ``importance_weights``, shape (n,).
        clip: The largest weight that counts, above 0.
    """
    if not clip > 0:
        message = f"clip must be above 0, not {clip:g}"
        raise ValueError(message)
    w = np.asarray(weights, np.float64)
    return column("reward", reward, weights) * np.clip(w, -clip, clip)


def snips(reward: ArrayLike, weights: ArrayLike) -> float:
    r"""``sum w_i r_i / sum w_i``: never outside the rewards' range; bias of order 1/n.

    Args:
        reward: What each decision earned, shape (n,).
        weights: Of ``importance_weights`` for one policy, shape (n,), not all 0.
    """
    r, w = column("reward", reward, weights), np.asarray(weights, np.float64)
    if not w.sum() > 0:
        message = "the weights must not all be 0: no logged action is one of the policy's"
        raise ValueError(message)
    return float((w * r).sum() / w.sum())


def dr_terms(
    reward: ArrayLike,
    action: ArrayLike,
    propensities: ArrayLike,
    target: ArrayLike,
    predicted: ArrayLike,
) -> Floats:
    r"""``sum_a t_i(a) q_i(a) + w_i (r_i - q_i(a_i))``; their mean is the doubly robust estimate.

    Unbiased for any predictions that were fitted on other rows; the better they are, the less
    it varies.

    Args:
        reward: What each decision earned, shape (n,).
        action: Index of the action taken, shape (n,).
        propensities: Logged probability of every action, shape (n, k).
        target: The target policy's, or a difference of two policies', shape (n, k).
        predicted: ``q_i(a)``, the reward predicted for every action, shape (n, k).
    """
    p, t = np.asarray(propensities, np.float64), np.asarray(target, np.float64)
    q = np.asarray(predicted, np.float64)
    _same_shape(p, q)
    w = importance_weights(action, p, t)
    residual = column("reward", reward, w) - q[np.arange(len(p)), _actions(action, p)]
    return np.asarray((t * q).sum(axis=1) + w * residual)


def dr_term_bounds(
    propensities: ArrayLike,
    target: ArrayLike,
    predicted: ArrayLike,
    *,
    reward_range: tuple[float, float],
) -> tuple[Floats, Floats]:
    """The least and the greatest that each of ``dr_terms`` can be, each of shape (n,).

    Over every action that the log could have taken and every reward in ``reward_range``: the
    true range, known before the draw, as a bound on the mean needs. The largest weight that
    happened to be drawn would be too small.
    """
    p, t, q = np.asarray(propensities), np.asarray(target), np.asarray(predicted)
    _same_shape(p, t)
    _same_shape(p, q)
    low, high = np.empty(len(p)), np.empty(len(p))
    for start in range(0, len(p), CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        low[part], high[part] = _dr_term_bounds(p[part], t[part], q[part], reward_range)
    return low, high


def _dr_term_bounds(
    p: Floats, t: Floats, q: Floats, reward_range: tuple[float, float]
) -> tuple[Floats, Floats]:
    possible = p > 0
    w = np.divide(t, p, out=np.zeros(t.shape), where=possible)
    direct = np.einsum("ij,ij->i", t, q)
    ends = np.stack([w * (end - q) for end in reward_range])
    low = np.where(possible, ends.min(axis=0), np.inf).min(axis=1)
    high = np.where(possible, ends.max(axis=0), -np.inf).max(axis=1)
    return np.asarray(direct + low), np.asarray(direct + high)


def largest_possible_weight(propensities: ArrayLike, target: ArrayLike) -> float:
    """The greatest ``t_i(a) / p_i(a)`` that could have been drawn."""
    p, t = np.asarray(propensities, np.float64), np.asarray(target, np.float64)
    _same_shape(p, t)
    most = 0.0
    for start in range(0, len(p), CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        w = np.divide(t[part], p[part], out=np.zeros_like(p[part]), where=p[part] > 0)
        most = max(most, float(w.max(initial=0.0)))
    return most


def effective_sample_size(weights: ArrayLike) -> float:
    r"""Kish's ``(sum w_i)^2 / sum w_i^2``: how many decisions the weighted ones are worth."""
    w = np.asarray(weights, np.float64)
    squares = float((w**2).sum())
    return float(w.sum() ** 2 / squares) if squares else 0.0


def _probabilities(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, np.float64)
    if array.ndim != 2:
        message = f"{name} must have shape (n, k), not {array.shape}"
        raise ValueError(message)
    wrong = (np.abs(array.sum(axis=1) - 1.0) > _ROUNDING) | np.any(array < 0, axis=1)
    if np.any(wrong):
        row = int(np.argmax(wrong))
        message = f"{name}, row {row}: {array[row].tolist()} are no probabilities that sum to 1"
        raise ValueError(message)
    return array


def _same_shape(first: Floats, second: Floats) -> None:
    if first.shape != second.shape:
        message = f"shapes differ: {first.shape} and {second.shape}"
        raise ValueError(message)


def _actions(action: ArrayLike, propensities: Floats) -> Codes:
    a = np.asarray(action, np.intp)
    if a.shape != propensities.shape[:1]:
        message = f"action has shape {a.shape}, not {propensities.shape[:1]}"
        raise ValueError(message)
    return a


def taken_propensity(
    action: ArrayLike, propensity: ArrayLike, shape: tuple[int, ...]
) -> tuple[Codes, Floats]:
    """The actions, and the logged probability of each, both of shape (n,).

    Args:
        action: Index of the action taken, shape (n,).
        propensity: Of the action taken, shape (n,), or of every action, shape (n, k).
        shape: (n, k), of the target policy's probabilities.

    Raises:
        ValueError: Shapes that disagree, an action outside 0..k-1, or a propensity outside
            (0, 1].
    """
    a, p = np.asarray(action, np.intp), np.asarray(propensity)
    if len(shape) != 2 or a.shape != shape[:1]:
        message = f"action has shape {a.shape}, the target {shape}: not (n,) and (n, k)"
        raise ValueError(message)
    if len(a) and not (a.min() >= 0 and a.max() < shape[1]):
        message = f"actions must be in 0..{shape[1] - 1}, not {int(a.min())}..{int(a.max())}"
        raise ValueError(message)
    if p.shape not in {a.shape, shape}:
        message = f"propensity has shape {p.shape}, neither {a.shape} nor {shape}"
        raise ValueError(message)
    taken = np.asarray(p[np.arange(len(a)), a] if p.ndim == 2 else p, np.float64)
    outside = ~((taken > 0) & (taken <= 1 + _ROUNDING))
    if np.any(outside):
        row = int(np.argmax(outside))
        message = f"row {row}: the propensity of the action taken is {taken[row]:g}, not in (0, 1]"
        raise ValueError(message)
    return a, taken


def column(name: str, values: ArrayLike, like: ArrayLike) -> Floats:
    """A reward or the like as floats of the shape of ``like``; ValueError where it has NaN."""
    array, shape = np.asarray(values, np.float64), np.asarray(like).shape
    if array.shape != shape:
        message = f"{name} has shape {array.shape}, not {shape}"
        raise ValueError(message)
    if np.any(np.isnan(array)):
        message = f"{name} has NaN in row {int(np.argmax(np.isnan(array)))}"
        raise ValueError(message)
    return array
