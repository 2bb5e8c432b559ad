"""The mixture filter against filterpy's Kalman filter, quadrature and enumeration."""

from __future__ import annotations

import numpy as np
import pytest
from filterpy.kalman import KalmanFilter
from scipy import integrate, stats

from vvuq_twin.assimilation.mixture import (
    Mixture,
    collapse,
    interval_moments,
    mixture_cdf,
    normalise,
    predict,
    update_interval,
)


@pytest.mark.parametrize(
    ("low", "high", "mean", "sd"),
    [(-1.0, 0.5, 0.2, 1.3), (2.0, 2.6, 0.0, 0.5), (-np.inf, -1.0, 0.3, 0.7), (3.0, np.inf, 0.0, 1.0),
     (0.1, 0.1005, 0.0, 1.0), (-7.4, -7.3, 0.0, 1.0), (6.0, 6.01, 0.0, 1.0)],
)  # fmt: skip
def test_moments_of_an_interval_are_those_of_quadrature(
    low: float, high: float, mean: float, sd: float
) -> None:
    law = stats.norm(mean, sd)
    a, b = max(low, mean - 12 * sd), min(high, mean + 12 * sd)
    # scaled by the density at the nearer end, so that far tails keep their digits
    top = law.logpdf(np.clip(mean, a, b))

    def moment(k: int, about: float) -> float:
        return float(
            integrate.quad(
                lambda x: (x - about) ** k * np.exp(law.logpdf(x) - top),
                a,
                b,
                epsabs=0,
                epsrel=1e-12,
                limit=200,
            )[0]
        )

    mass = moment(0, 0.0)
    first = float(np.clip(mean, a, b)) + moment(1, float(np.clip(mean, a, b))) / mass
    second = moment(2, first) / mass
    found = interval_moments(np.array(low), np.array(high), np.array(mean), np.array(sd))
    assert found[0] == pytest.approx(np.log(mass) + top, abs=1e-6)
    assert found[1] == pytest.approx(first, abs=1e-5 * sd)
    assert found[2] == pytest.approx(second, rel=2e-3)


def test_a_mirrored_interval_has_the_mirrored_mean() -> None:
    low, high = np.array([-2.0, 0.3, 1.0]), np.array([-1.0, 0.9, np.inf])
    one = interval_moments(low, high, np.zeros(3), np.ones(3))
    other = interval_moments(-high, -low, np.zeros(3), np.ones(3))
    np.testing.assert_allclose(one[0], other[0], rtol=1e-13)
    np.testing.assert_allclose(one[1], -other[1], rtol=1e-12)
    np.testing.assert_allclose(one[2], other[2], rtol=1e-12)


def test_narrow_intervals_give_the_kalman_filter() -> None:
    matrix, noise = np.array([[1.0, 0.7], [0.0, 0.9]]), np.array([[0.04, 0.01], [0.01, 0.02]])
    start, spread, variance = np.array([0.3, -0.2]), np.diag([0.5, 0.1]), 0.05
    peer = KalmanFilter(dim_x=2, dim_z=1)
    peer.x, peer.P, peer.F, peer.Q = start[:, None].copy(), spread.copy(), matrix, noise
    peer.H, peer.R = np.array([[1.0, 0.0]]), np.array([[variance]])
    state = Mixture(np.zeros((1, 1)), start[None, None], spread[None, None])
    width = 1e-4
    for y in (0.4, -0.1, 1.5, 0.9):
        peer.predict()
        peer.update(np.array([[y]]))
        state = predict(state, matrix, np.zeros(2), noise)
        state, log_likelihood = update_interval(
            state, np.array(y - width / 2), np.array(y + width / 2), np.array(variance)
        )
        np.testing.assert_allclose(state.mean[0, 0], peer.x[:, 0], atol=1e-7)
        np.testing.assert_allclose(state.cov[0, 0], peer.P, atol=1e-7)
        assert log_likelihood[0, 0] - np.log(width) == pytest.approx(peer.log_likelihood, abs=1e-6)


def test_a_censored_reading_has_the_posterior_moments_of_a_grid() -> None:
    cov = np.array([[0.6, 0.2], [0.2, 0.3]])
    mean, variance = np.array([1.0, -0.5]), 0.1
    state = Mixture(np.zeros((1, 1)), mean[None, None], cov[None, None])
    low, high = np.array(-np.inf), np.array(0.2)
    found, log_likelihood = update_interval(state, low, high, np.array(variance))
    x, b = np.meshgrid(np.linspace(-5, 7, 801), np.linspace(-5, 4, 801), indexing="ij")
    density = stats.multivariate_normal(mean, cov).pdf(np.stack([x, b], -1))
    density = density * stats.norm.cdf((0.2 - x) / np.sqrt(variance))
    cell = (x[1, 0] - x[0, 0]) * (b[0, 1] - b[0, 0])
    mass = density.sum() * cell
    expected = np.array([(density * x).sum(), (density * b).sum()]) * cell / mass
    dx, db = x - expected[0], b - expected[1]
    spread = [[(density * u * v).sum() * cell / mass for v in (dx, db)] for u in (dx, db)]
    assert log_likelihood[0, 0] == pytest.approx(np.log(mass), abs=1e-6)
    np.testing.assert_allclose(found.mean[0, 0], expected, atol=1e-6)
    np.testing.assert_allclose(found.cov[0, 0], spread, atol=1e-6)


def test_collapse_keeps_weight_mean_and_covariance() -> None:
    rng = np.random.default_rng(3)
    parts = []
    for _ in range(3):
        root = rng.normal(size=(4, 2, 2, 2))
        parts.append(
            Mixture(rng.normal(size=(4, 2)), rng.normal(size=(4, 2, 2)), root @ np.swapaxes(root, -1, -2))
        )
    parts[1].log_weight[0] = -np.inf
    one = collapse(parts)
    w = np.exp(np.stack([p.log_weight for p in parts]))
    np.testing.assert_allclose(np.exp(one.log_weight), w.sum(axis=0), rtol=1e-12)
    w = w / w.sum(axis=0)
    second = sum(
        a[..., None, None] * (p.cov + p.mean[..., :, None] * p.mean[..., None, :]) for a, p in zip(w, parts)
    )
    np.testing.assert_allclose(one.mean, sum(a[..., None] * p.mean for a, p in zip(w, parts)), rtol=1e-12)
    np.testing.assert_allclose(
        one.cov + one.mean[..., :, None] * one.mean[..., None, :], second, rtol=1e-10, atol=1e-12
    )


def test_normalise_and_distribution_function() -> None:
    state = Mixture(np.log([[1.0, 3.0]]), np.zeros((1, 2, 1)), np.ones((1, 2, 1, 1)))
    found, total = normalise(state)
    np.testing.assert_allclose(np.exp(found.log_weight), [[0.25, 0.75]])
    assert total[0] == pytest.approx(np.log(4.0))
    cdf = mixture_cdf(
        np.array([[0.5]]), np.array([[0.25, 0.75]]), np.array([[0.0, 1.0]]), np.array([[1.0, 2.0]])
    )
    expected = 0.25 * stats.norm.cdf(0.5) + 0.75 * stats.norm.cdf(-0.25)
    assert cdf[0, 0] == pytest.approx(expected, abs=1e-14)
