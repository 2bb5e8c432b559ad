"""Observations as they come: censored values, outliers, thinning, averages, streams, several modalities."""

import numpy as np
import pytest
from linear_gaussian import exact_ensemble
from scipy import stats

from vvuq_twin.assimilation import ESMDA, ETKF, LETKF, Key, RootESMDA, Tiles, start
from vvuq_twin.assimilation.censored import equivalent
from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError, Observations, stack

KEY = Key(8)


def scan(y, error, time=0.0, name="scan", coords=None, interval=None):
    coords = np.zeros((len(y), 0)) if coords is None else coords
    return Observations(y, error, coords, [name], time, interval)


def below(y, limit):
    """Values under the limit are known by an interval only."""
    hidden = y < limit
    bounds = np.where(hidden[:, None], np.array([-np.inf, limit]), np.nan)
    return np.where(hidden, np.nan, y), bounds


@pytest.mark.parametrize(
    "low, high", [(-np.inf, -1.0), (0.5, np.inf), (-0.2, 0.3), (-np.inf, -6.0), (-np.inf, 9.0)]
)
def test_one_censored_value_has_the_exact_mean_and_variance(low, high):
    E = exact_ensemble(np.array([0.4]), np.array([[1.3]]), 50, 1)
    obs = scan(np.array([np.nan]), ObservationError(np.array([0.6])), interval=np.array([[low, high]]))
    for scheme in (ETKF(), RootESMDA(1)):
        update, carry = scheme.analyse(start(50), E, obs, KEY)
        out = update.apply(E)
        x = np.linspace(-12, 12, 200001)
        w = stats.norm.pdf(x, 0.4, np.sqrt(1.3)) * (
            stats.norm.cdf((high - x) / 0.6) - stats.norm.cdf((low - x) / 0.6)
        )
        w /= w.sum()
        mean = w @ x
        assert out.mean() == pytest.approx(mean, abs=2e-5)
        assert out.var(ddof=1) == pytest.approx(w @ (x - mean) ** 2, rel=1e-4)
        assert carry.history[0]["censored"] == 1 and carry.history[0]["missing"] == 0


def test_censored_values_together_are_near_the_exact_posterior():
    """Two states, five readings of which three are below detection, an offset shared by all of them."""
    H = np.array([[1.0, 0.2], [0.8, -0.5], [0.3, 1.0], [1.0, 1.0], [-0.4, 1.0]])
    cov = np.array([[1.0, 0.5], [0.5, 1.0]])
    error = ObservationError(np.full(5, 0.4), 0.3 * np.ones((5, 1)))
    y = np.array([0.2, -0.9, -1.2, 0.7, -0.8])
    seen, bounds = below(y, -0.5)
    E = exact_ensemble(np.zeros(2), cov, 60, 1)
    update, _ = ETKF().analyse(start(60), E @ H.T, scan(seen, error, interval=bounds), KEY)
    out = update.apply(E)
    axis = np.linspace(-5, 5, 121)
    u = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    f = u[:, :2] @ H.T + 0.3 * u[:, 2:]
    log = stats.multivariate_normal(np.zeros(2), cov).logpdf(u[:, :2]) - 0.5 * u[:, 2] ** 2
    hidden = np.isnan(seen)
    log += stats.norm.logpdf(y[~hidden], f[:, ~hidden], 0.4).sum(axis=1)
    log += stats.norm.logcdf((-0.5 - f[:, hidden]) / 0.4).sum(axis=1)
    w = np.exp(log - log.max())
    w /= w.sum()
    mean = w @ u[:, :2]
    exact = (w[:, None] * (u[:, :2] - mean)).T @ (u[:, :2] - mean)
    np.testing.assert_allclose(out.mean(axis=0), mean, atol=0.01 * np.sqrt(np.diag(exact)).max())
    np.testing.assert_allclose(np.cov(out.T), exact, atol=0.02 * np.diag(exact).max())


def test_censored_is_neither_dropped_nor_taken_at_the_limit():
    """Most readings of a low concentration are below detection: three treatments over many patients."""
    errors = {"censored": [], "dropped": [], "at the limit": []}
    for seed in range(60):
        rng = generator(seed, "detection")
        truth = -0.5 + 0.5 * rng.standard_normal()
        E = 1.0 * rng.standard_normal((60, 1))
        y = truth + 0.5 * rng.standard_normal(8)
        seen, bounds = below(y, 0.0)
        error = ObservationError(np.full(8, 0.5))
        cases = {
            "censored": scan(seen, error, interval=bounds),
            "dropped": scan(seen, error),
            "at the limit": scan(np.maximum(y, 0.0), error),
        }
        for name, obs in cases.items():
            update, _ = ETKF().analyse(start(60), np.repeat(E, 8, axis=1), obs, KEY)
            errors[name].append(update.apply(E).mean() - truth)
    bias = {name: abs(np.mean(e)) for name, e in errors.items()}
    rmse = {name: np.sqrt(np.mean(np.square(e))) for name, e in errors.items()}
    assert bias["censored"] < 0.1 < min(bias["dropped"], bias["at the limit"])
    assert rmse["censored"] < 0.6 * min(rmse["dropped"], rmse["at the limit"])


def test_censored_values_in_local_and_iterative_schemes_and_in_stacks():
    rng = generator(2, "local censored")
    points = np.column_stack([np.arange(10.0), np.zeros((10, 2))])
    E = rng.standard_normal((40, 10))
    y, bounds = below(rng.standard_normal(10) - 1.0, -1.0)
    obs = scan(y, ObservationError(np.full(10, 0.3)), coords=points, interval=bounds)
    for scheme in (LETKF(Tiles.of(points, 0.0), 1.0), ESMDA(3), RootESMDA(2, columns=True)):
        carry, now = start(40), E
        for _ in range(scheme.steps):
            update, carry = scheme.analyse(carry, now, obs, KEY)
            now = update.apply(now)
        hidden = np.isnan(y)
        assert hidden.any() and (now[:, hidden].mean(axis=0) < -0.5).all()
    other = scan(np.zeros(3), ObservationError(np.ones(3)), name="other", coords=np.zeros((3, 3)))
    both = stack([obs, other])
    assert both.censored.tolist() == [*hidden.tolist(), False, False, False]
    assert np.array_equal(both.present().censored, both.censored)
    assert np.array_equal(both.take(np.array([0, 11])).censored, both.censored[[0, 11]])
    # without censored values nothing is touched
    assert equivalent(other, np.zeros(3), np.zeros((5, 3))) is other
    with pytest.raises(BadInput, match="lower before the upper"):
        ETKF().analyse(start(40), E, scan(y, obs.error, interval=bounds[:, ::-1]), KEY)
