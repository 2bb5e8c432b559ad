"""Scores against closed forms, brute force and each other."""

import itertools

import numpy as np
import pytest
from scipy import integrate, stats

from vvuq_twin import scores
from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.keys import generator


def brute_crps(y, x, fair):
    n = len(x)
    pairs = np.abs(x[:, None] - x[None, :]).sum()
    return np.abs(x - y).mean() - 0.5 * pairs / (n * (n - 1) if fair else n * n)


@pytest.mark.parametrize("fair", [False, True])
def test_crps_of_a_sample_equals_its_definition(fair):
    rng = generator(1, "crps")
    x, y = rng.standard_normal((17, 3, 2)), rng.standard_normal((3, 2))
    ours = scores.crps_ensemble(y, x, fair=fair)
    theirs = [[brute_crps(y[i, j], x[:, i, j], fair) for j in range(2)] for i in range(3)]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14)


def test_crps_of_a_sample_is_the_integral_of_the_squared_cdf_difference():
    x, y = np.array([0.2, 1.5, 1.7, 3.0]), 1.0
    knots = np.unique(np.append(x, y))
    area = sum(
        (b - a) * (np.mean(x <= (a + b) / 2) - float((a + b) / 2 >= y)) ** 2
        for a, b in itertools.pairwise(knots)
    )
    assert scores.crps_ensemble(y, x) == pytest.approx(area, abs=1e-15)


@pytest.mark.parametrize("y, mean, sd", [(0.3, 0.0, 1.0), (-4.0, 1.0, 0.5), (2.0, 2.0, 3.0)])
def test_crps_of_a_gaussian_is_its_integral(y, mean, sd):
    def square(t):
        return (stats.norm.cdf(t, mean, sd) - (t >= y)) ** 2

    low, high = min(y, mean) - 12 * sd, max(y, mean) + 12 * sd
    area = integrate.quad(square, low, y, limit=200)[0] + integrate.quad(square, y, high, limit=200)[0]
    assert scores.crps_gaussian(y, mean, sd) == pytest.approx(area, rel=1e-8)


def test_crps_of_a_gaussian_without_spread_is_the_absolute_error():
    assert scores.crps_gaussian(3.0, 1.0, 0.0) == 2.0


def test_fair_crps_has_no_bias_and_the_plain_one_has_the_known_one():
    rng = generator(2, "fair")
    n, y = 5, 0.4
    x = rng.standard_normal((n, 200_000))
    exact = float(scores.crps_gaussian(y, 0.0, 1.0))
    fair = scores.crps_ensemble(np.full(x.shape[1], y), x, fair=True)
    plain = scores.crps_ensemble(np.full(x.shape[1], y), x)
    error = fair.std() / np.sqrt(fair.size)
    assert abs(fair.mean() - exact) < 4 * error
    # E|x - x'| of two standard normals is 2/sqrt(pi); the plain score keeps 1/N of its half
    assert plain.mean() - exact == pytest.approx(1 / np.sqrt(np.pi) / n, abs=4 * error)


def test_weighted_crps_equals_the_repeated_sample():
    x, count = np.array([0.3, -1.0, 2.0, 0.9]), np.array([1, 3, 2, 5])
    assert scores.crps_weighted(0.5, x, count) == pytest.approx(
        float(scores.crps_ensemble(0.5, np.repeat(x, count))), abs=1e-14
    )


def test_energy_score_of_scalars_is_the_crps():
    rng = generator(3, "energy")
    x = 100.0 + rng.standard_normal((40, 1))
    for fair in (False, True):
        assert scores.energy_score([100.3], x, fair=fair) == pytest.approx(
            float(scores.crps_ensemble(100.3, x[:, 0], fair=fair)), abs=1e-9
        )


def test_interval_of_exchangeable_draws_covers_exactly():
    # 19 draws and levels on their plotting positions: the next draw is inside with probability 0.9
    x = np.arange(1.0, 20.0)
    low, high = scores.central_interval(x, 0.9)
    assert (low, high) == (1.0, 19.0)
    rng = generator(4, "coverage")
    sample, y = rng.standard_normal((19, 100_000)), rng.standard_normal(100_000)
    hit = scores.coverage(y, *scores.central_interval(sample, 0.9))
    assert abs(hit - 0.9) < 4 * np.sqrt(0.09 / 1e5)


def test_weighted_quantiles_with_equal_weights_are_near_the_plain_ones():
    x = generator(5, "quantiles").standard_normal((4000, 2))
    plain, weighted = (
        scores.quantiles(x, [0.05, 0.5, 0.95]),
        scores.quantiles(x, [0.05, 0.5, 0.95], np.ones(4000)),
    )
    np.testing.assert_allclose(plain, weighted, atol=5e-3)


def test_interval_score_is_smallest_in_the_mean_for_the_true_quantiles():
    y = generator(6, "interval").standard_normal(200_000)
    ends = np.linspace(1.0, 2.4, 15)
    mean = [scores.interval_score(y, -e, e, 0.9).mean() for e in ends]
    assert abs(ends[int(np.argmin(mean))] - 1.645) <= 0.1
    assert scores.interval_score(3.0, 0.0, 2.0, 0.5) == 2.0 + 4.0


def test_pit_is_uniform_also_with_ties():
    rng = generator(7, "pit")
    sample, y = rng.integers(0, 4, (9, 50_000)), rng.integers(0, 4, 50_000)
    u = scores.pit(y, sample, rng.uniform(size=50_000))
    assert stats.kstest(u, "uniform").pvalue > 1e-3


def test_coverage_leaves_out_missing_observations():
    assert scores.coverage([0.0, np.nan, 5.0], [-1.0] * 3, [1.0] * 3) == 0.5


def test_agreement_against_hand_calculation():
    assert scores.rmse([1.0, 2.0, np.nan], [1.0, 4.0, 0.0]) == pytest.approx(np.sqrt(2.0))
    # moments by hand: s_ab = 2/3, s_a^2 = 2/3, s_b^2 = 2/3, means differ by 1
    assert scores.concordance([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]) == pytest.approx(4 / 7)
    assert scores.concordance([2.0, 2.0], [2.0, 2.0]) == 1.0
    assert scores.dice([1, 1, 0, 0], [1, 0, 1, 1]) == pytest.approx(0.4)
    assert scores.dice([0, 0], [0, 0]) == 1.0
    assert scores.skill(0.5, 2.0) == 0.75


@pytest.mark.parametrize(
    "call",
    [
        lambda: scores.crps_ensemble([0.0, 1.0], np.zeros((3, 3))),
        lambda: scores.crps_ensemble(0.0, np.zeros((0,))),
        lambda: scores.crps_ensemble(0.0, [1.0], fair=True),
        lambda: scores.crps_gaussian(0.0, 0.0, -1.0),
        lambda: scores.crps_weighted(0.0, [1.0, 2.0], [0.0, 0.0]),
        lambda: scores.interval_score(0.0, 1.0, 0.0, 0.9),
        lambda: scores.central_interval([1.0, 2.0], 1.0),
        lambda: scores.coverage([np.nan], [0.0], [1.0]),
        lambda: scores.rmse([1.0], [1.0, 2.0]),
        lambda: scores.dice([1], [1, 0]),
        lambda: scores.skill(1.0, 0.0),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call):
    with pytest.raises(BadInput) as caught:
        call()
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
