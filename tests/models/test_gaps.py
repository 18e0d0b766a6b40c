from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.models.gaps import EDGES_S, N_BINS, GapDistribution, count_gaps

SHAPES = st.builds(
    lambda mass: GapDistribution(tuple(np.array(mass) / math.fsum(mass))),
    st.lists(st.floats(0.001, 1), min_size=N_BINS, max_size=N_BINS),
)


@given(SHAPES)
def test_survival_is_what_the_hazards_leave(gaps: GapDistribution) -> None:
    left = 1.0
    for edge, hazard in zip(EDGES_S[1:], gaps.hazard(), strict=True):
        left *= 1.0 - hazard
        assert gaps.survival(edge) == pytest.approx(left, abs=1e-9)


@given(SHAPES, st.floats(0, 1e7))
def test_what_is_left_after_a_silence_is_a_distribution_beyond_it(
    gaps: GapDistribution, silence_s: float
) -> None:
    left = gaps.beyond(silence_s)
    assert left.sum() == pytest.approx(1)
    ended = np.array(EDGES_S[1:]) <= silence_s
    assert left[:-1][ended[:-1]].sum() == 0


@given(SHAPES, st.integers(1, N_BINS - 1))
def test_the_points_fall_into_the_bins_by_their_mass(gaps: GapDistribution, edge: int) -> None:
    below = (gaps.points_s() < EDGES_S[edge]).mean()
    assert below == pytest.approx(1 - gaps.survival(EDGES_S[edge]), abs=1 / 256 + 1e-9)


def test_a_lognormal_has_its_median() -> None:
    gaps = GapDistribution.lognormal(median_s=128.0, sigma=1.0)
    assert gaps.survival(128.0) == pytest.approx(0.5)
    assert gaps.survival(128.0 * math.e) == pytest.approx(0.159, abs=0.005)


def test_much_data_outweigh_the_prior_and_none_leaves_it() -> None:
    prior = GapDistribution.lognormal(median_s=128.0, sigma=1.0)
    assert GapDistribution.fit(count_gaps([]), prior=prior, prior_weight=5).mass == pytest.approx(
        prior.mass
    )
    fast = GapDistribution.fit(count_gaps([2.5] * 1000), prior=prior, prior_weight=5)
    assert fast.survival(3.0) < 0.02


def test_gaps_beyond_both_ends_are_counted_in_the_outer_bins() -> None:
    counts = count_gaps([0.0, 0.2, 1.0, 1e9])
    assert (counts[0], counts[1], counts[-1], counts.sum()) == (2, 1, 1, 4)
