"""Arrivals within a time: the renewal equation of queries that go on with a known probability.

After its n-th query a context gets another with probability p_n, a gap G later. The number of
further queries within t, N_n(t), then obeys (Feller, volume 2, chapter XI)

    E N_n(t)      = p_n * E[1{G <= t} (1 + N_{n+1}(t - G))]
    P(N_n(t) = k) = p_n * E[1{G <= t} P(N_{n+1}(t - G) = k - 1)] for k > 0

The expectation over G is linear in what is known for n + 1, so on a grid of times it is one
matrix, and the tables for all n follow from the largest n down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from forethought.models.gaps import Floats

MAX_SEEN: Final = 256
"""The tables end here: a context with more queries is taken to go on as one with so many."""

_SETTLE: Final = 64
"""Steps from which the table's end comes near what no end at all would give."""

_GRID_S: Final[Floats] = np.concatenate([[0.0], 2.0 ** (np.arange(169) / 8)])
"""Eight times an octave, from 1 s to 24 days."""

_LOG_GRID: Final[Floats] = np.log1p(_GRID_S)


@dataclass(frozen=True, eq=False)
class Renewal:
    """Tables of one model. Make one with ``build``."""

    continues: Floats
    """p_n for n = 1 to MAX_SEEN, shape (MAX_SEEN,)."""
    operator: Floats
    """E[1{G <= t} f(t - G)] as a matrix on f's values on the grid, shape (T, T)."""
    expected: Floats
    """E N_n(t), shape (MAX_SEEN, T)."""

    @classmethod
    def build(cls, continues: Floats, points_s: Floats) -> Renewal:
        """From p_n, shape (MAX_SEEN,), and gaps that are equally likely, shape (G,)."""
        operator = _operator(points_s)
        below = operator.sum(axis=1)
        after = np.zeros(len(_GRID_S))
        for _ in range(_SETTLE):
            after = continues[-1] * (below + operator @ after)
        expected = np.empty((MAX_SEEN, len(_GRID_S)))
        for n in range(MAX_SEEN - 1, -1, -1):
            after = expected[n] = continues[n] * (below + operator @ after)
        return cls(continues, operator, expected)

    def within(self, n_seen: int, times_s: Floats) -> Floats:
        """E N(t) at each of ``times_s``, just after query ``n_seen``."""
        row = self.expected[min(n_seen, MAX_SEEN) - 1]
        return np.asarray(np.interp(np.log1p(times_s), _LOG_GRID, row))

    def counts(self, n_seen: int, times_s: Floats, *, most: int) -> Floats:
        """P(N(t) = k) just after query ``n_seen``, for k = 0 to ``most``; shape (times, most + 1).

        What is above ``most`` is counted at it. Takes some milliseconds: not for a request's path.
        """
        # Nothing later than the last of the times matters.
        size = min(len(_GRID_S), int(np.searchsorted(_GRID_S, times_s.max(initial=0.0))) + 1)
        forward = self.operator[:size, :size].T
        below = forward.sum(axis=0)
        rows = np.zeros((0, size))
        for n in range(n_seen + most, n_seen - 1, -1):
            p = self.continues[min(n, MAX_SEEN) - 1]
            rows = np.vstack([1.0 - p * below, p * (rows @ forward)])
        rows = rows[: most + 1]
        rows[most] += 1.0 - rows.sum(axis=0)
        at = np.log1p(times_s)
        return np.stack([np.interp(at, _LOG_GRID[:size], row) for row in rows], axis=1)


def _operator(points_s: Floats) -> Floats:
    """Each row spreads the weights of the gaps below t over the grid, by linear interpolation."""
    size = len(_GRID_S)
    found = np.zeros((size, size))
    share = 1.0 / len(points_s)
    for i, t in enumerate(_GRID_S.tolist()):
        left = np.log1p(t - points_s[points_s <= t])
        upper = np.clip(np.searchsorted(_LOG_GRID, left), 1, size - 1)
        weight = (left - _LOG_GRID[upper - 1]) / (_LOG_GRID[upper] - _LOG_GRID[upper - 1])
        np.add.at(found[i], upper - 1, share * (1.0 - weight))
        np.add.at(found[i], upper, share * weight)
    return found
