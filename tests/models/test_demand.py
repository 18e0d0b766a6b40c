from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.trace import read_trace
from forethought.models.demand import DemandModel
from forethought.models.gaps import GapDistribution

GAPS = st.builds(
    lambda median_s, sigma: GapDistribution.lognormal(median_s=median_s, sigma=sigma),
    median_s=st.floats(5, 50_000),
    sigma=st.floats(0.1, 2.5),
)
MODELS = st.builds(DemandModel, alpha=st.floats(1.2, 20), beta=st.floats(0.05, 20), gaps=GAPS)
times = st.floats(1, 1e6)


def draw(model: DemandModel, n: int, *, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    return [int(rng.geometric(s)) for s in rng.beta(model.alpha, model.beta, size=n)]


def simulate(model: DemandModel, n_seen: int, *, n: int, seed: int) -> list[np.ndarray]:
    """When further queries come after query ``n_seen``, in ``n`` lives."""
    rng = np.random.default_rng(seed)
    lives = []
    for s in rng.beta(model.alpha, model.beta + n_seen - 1, size=n):
        gaps = rng.choice(model.gaps.points_s(), size=int(rng.geometric(s)) - 1)
        lives.append(np.cumsum(gaps))
    return lives


def test_the_default_is_the_production_trace() -> None:
    model, trace = DemandModel(), read_trace()
    fitted = trace.fit()
    assert fitted.alpha == pytest.approx(model.alpha, abs=0.01)
    assert fitted.beta == pytest.approx(model.beta, abs=0.01)
    for quarter in (64, 64 * 2, 64 * 3):  # of the points at evenly spaced quantiles
        got, said = fitted.gaps.points_s()[quarter], model.gaps.points_s()[quarter]
        assert math.log(got / said) == pytest.approx(0, abs=0.1)


@given(MODELS)
def test_expected_more_is_the_sum_of_survival(model: DemandModel) -> None:
    for n in range(5):  # one step ahead, then what is expected from there
        step = model.p_another(n) * (1 + model.expected_more(n + 1))
        assert model.expected_more(n) == pytest.approx(step, rel=1e-9)


@given(MODELS, st.integers(1, 1000))
def test_each_query_makes_another_likelier(model: DemandModel, n: int) -> None:
    assert 0 < model.p_another(n) < model.p_another(n + 1) < 1
    assert model.expected_more(n) < model.expected_more(n + 1)


def test_maximum_likelihood_finds_the_truth() -> None:
    truth = DemandModel(alpha=5.0, beta=8.0)
    fitted = DemandModel.fit(draw(truth, 20_000, seed=0), prior_weight=0)
    for n in (1, 3, 10):
        assert fitted.p_another(n) == pytest.approx(truth.p_another(n), abs=0.02)


def test_no_counts_leave_the_prior_as_it_is() -> None:
    fitted = DemandModel.fit([])
    assert fitted.p_another(1) == pytest.approx(DemandModel().p_another(1), abs=1e-3)
    assert fitted.expected_more(4) == pytest.approx(DemandModel().expected_more(4), rel=0.01)


def test_a_busy_tenant_moves_the_prior_by_as_much_as_it_has_shown() -> None:
    prior = DemandModel().expected_more(1)
    little = DemandModel.fit([12] * 5).expected_more(1)
    much = DemandModel.fit([12] * 500).expected_more(1)
    assert prior < little < much
    assert much > 7


def test_contexts_still_open_count_as_at_least() -> None:
    counts = [2] * 200
    closed = DemandModel.fit(counts)
    still_open = DemandModel.fit(counts, ended=[False] * 200)
    assert still_open.p_another(2) > closed.p_another(2)


@pytest.mark.parametrize(
    ("counts", "options", "match"),
    [
        pytest.param([1, 0], {}, "not 0", id="zero"),
        pytest.param([1, 2], {"ended": [True]}, "2 counts but 1", id="flags"),
        pytest.param([3], {"ended": [False], "prior_weight": 0}, "must have ended", id="open"),
        pytest.param([3], {"idle_s": [-1.0]}, "0 s or more", id="negative silence"),
        pytest.param([3], {"idle_s": [1.0], "ended": [True]}, "not both", id="both"),
        pytest.param([3], {"gaps_s": [-1.0]}, "cannot be -1 s", id="negative gap"),
    ],
)
def test_impossible_counts_are_named(
    counts: list[int], options: dict[str, list[bool]], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        DemandModel.fit(counts, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("alpha", "beta"),
    [
        pytest.param(1.0, 1.0, id="alpha"),
        pytest.param(2.0, 0.0, id="beta"),
        pytest.param(math.nan, 1.0, id="nan"),
        pytest.param(math.inf, 1.0, id="infinite"),
    ],
)
def test_impossible_parameters_are_refused(alpha: float, beta: float) -> None:
    with pytest.raises(ValueError, match="need alpha > 1"):
        DemandModel(alpha=alpha, beta=beta)


@settings(deadline=None)
@given(MODELS, st.integers(1, 50), times, times)
def test_silence_is_evidence_of_the_end(
    model: DemandModel, n: int, first: float, second: float
) -> None:
    short, long = sorted((first, second))
    assert model.p_another(n, idle_s=long) <= model.p_another(n, idle_s=short) + 1e-12
    assert model.p_another(n, idle_s=short) <= model.p_another(n)
    assert model.expected_more(n, idle_s=long) <= model.expected_more(n, idle_s=short) + 1e-9


@settings(deadline=None, max_examples=30)
@given(MODELS, st.integers(0, 300), times, times, st.sampled_from([0.0, 10.0, 5000.0]))
def test_more_time_means_no_fewer_queries(
    model: DemandModel, n: int, first: float, second: float, idle_s: float
) -> None:
    short, long = sorted((first, second))
    few, many = (model.expected_within(n, t, idle_s=idle_s) for t in (short, long))
    assert 0 <= few <= many + 1e-9
    assert model.p_within(n, short, idle_s=idle_s) <= model.p_within(n, long, idle_s=idle_s) + 1e-9
    assert model.expected_after(n, long, idle_s=idle_s) <= (
        model.expected_after(n, short, idle_s=idle_s) + 1e-9
    )
    assert model.expected_after(n, 0.0, idle_s=idle_s) == model.expected_more(n, idle_s=idle_s)


@settings(deadline=None, max_examples=20)
@given(MODELS, st.integers(1, 30))
def test_in_the_end_all_queries_have_come(model: DemandModel, n: int) -> None:
    # Within the tables' times and counts: few queries come after the 256th.
    if model.gaps.points_s()[-1] * 2000 < 2**21 and model.alpha > 2.5 and model.beta < 10:
        assert model.expected_within(n, 2.0**21) == pytest.approx(model.expected_more(n), rel=0.05)


@pytest.mark.parametrize("n_seen", [1, 4])
def test_the_forecast_is_what_lives_that_follow_the_model_do(n_seen: int) -> None:
    model = DemandModel()
    lives = simulate(model, n_seen, n=8000, seed=1)
    for horizon_s in (60.0, 300.0, 3600.0):
        came = np.array([(life <= horizon_s).sum() for life in lives])
        assert model.expected_within(n_seen, horizon_s) == pytest.approx(came.mean(), rel=0.08)
        assert model.p_within(n_seen, horizon_s) == pytest.approx((came > 0).mean(), abs=0.02)
        chances = model.distribution(n_seen, horizon_s=horizon_s)
        assert chances[:4] == pytest.approx([(came == k).mean() for k in range(4)], abs=0.02)
    silent = [life for life in lives if not len(life) or life[0] > 200]
    after = np.array([((life > 260) & (life <= 1100)).sum() for life in silent])
    foreseen = model.expected_after(n_seen, 60, horizon_s=900, idle_s=200)
    assert foreseen == pytest.approx(after.mean(), rel=0.15)


@settings(deadline=None, max_examples=6)
@given(MODELS, st.integers(0, 40), st.one_of(times, st.just(math.inf)))
def test_an_interval_holds_what_it_promises(model: DemandModel, n: int, horizon_s: float) -> None:
    chances = model.distribution(n, horizon_s=horizon_s)
    assert chances.sum() == pytest.approx(1)
    assert chances.min() >= -1e-9
    low, high = model.interval(n, horizon_s=horizon_s, coverage=0.9)
    assert chances[low : high + 1].sum() >= 0.9 - 1e-9


def test_queries_cut_off_by_the_end_of_the_watch_are_made_up_for() -> None:
    truth, until_s = DemandModel(), 3600.0
    rng = np.random.default_rng(4)
    lives = [np.append(0.0, life) for life in simulate(truth, 1, n=4000, seed=4)]
    starts = rng.uniform(0, until_s, len(lives))
    seen = [
        (start + life)[start + life < until_s] for start, life in zip(starts, lives, strict=True)
    ]
    counts, gaps_s = [len(own) for own in seen], [g for own in seen for g in np.diff(own)]
    idle_s = [until_s - own[-1] for own in seen]
    fitted = DemandModel.fit(counts, gaps_s=gaps_s, idle_s=idle_s)
    naive = DemandModel.fit(counts, gaps_s=gaps_s)
    assert fitted.expected_more(1) == pytest.approx(truth.expected_more(1), rel=0.15)
    assert naive.expected_more(1) < 0.9 * truth.expected_more(1)


def test_a_file_without_gaps_is_read_with_the_default_ones() -> None:
    read = DemandModel.from_texts({"demand.json": '{"alpha": 3.301, "beta": 1.451}'})
    assert read == DemandModel(alpha=3.301, beta=1.451)
    assert DemandModel.from_texts(read.to_texts()) == read


@pytest.mark.parametrize(
    "gaps",
    [pytest.param([1.0], id="too few"), pytest.param([-1.0, 2.0] + [0.0] * 41, id="negative")],
)
def test_gaps_that_are_no_distribution_are_refused(gaps: list[float]) -> None:
    text = json.dumps({"alpha": 3, "beta": 1, "gaps": gaps})
    with pytest.raises(ValueError, match="gaps need 43 shares"):
        DemandModel.from_texts({"demand.json": text})


def test_a_negative_number_of_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        DemandModel().expected_more(-1)
