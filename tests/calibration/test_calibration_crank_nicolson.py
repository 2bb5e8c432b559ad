"""Chains about a Gaussian reference sample the target, whatever the reference."""

import numpy as np
import pytest

from vvuq_twin.calibration.crank_nicolson import crank_nicolson
from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.keys import generator


@pytest.mark.parametrize("good", [True, False])
def test_a_gaussian_target_has_its_mean_and_covariance(good):
    H, y = np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([1.0, -0.5])
    P = np.linalg.inv(np.eye(2) + H.T @ H / 0.25)
    mean = P @ H.T @ y / 0.25
    root = np.linalg.cholesky(P) if good else np.diag([0.9, 0.7])
    centre = mean if good else np.array([0.4, 0.1])
    start = generator(1, "start").standard_normal((40, 2))
    walk = crank_nicolson(
        lambda z: -0.5 * ((y - z @ H.T) ** 2).sum(axis=1) / 0.25, start, centre, root, 2000, 300, 1
    )
    draws = walk.pooled()
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=0.02)
    np.testing.assert_allclose(np.cov(draws.T), P, atol=0.02)
    assert walk.r_hat().max() < 1.02
    assert walk.step > 0.9 or not good


def test_two_modes_are_told_apart_and_failures_are_refused():
    def ring(z):  # a bimodal likelihood, with a hole where the model fails
        value = -0.5 * ((z[:, 0] ** 2 - 2.0) / 0.3) ** 2
        return np.where(np.abs(z[:, 0]) < 0.1, -np.inf, value)

    walk = crank_nicolson(
        ring, generator(2, "s").standard_normal((200, 1)), np.zeros(1), np.eye(1), 1500, 200, 3
    )
    x = np.linspace(-4, 4, 40001)
    w = np.exp(np.where(np.abs(x) < 0.1, -np.inf, -0.5 * ((x**2 - 2.0) / 0.3) ** 2) - 0.5 * x**2)
    w /= w.sum()
    assert np.abs(walk.pooled()).mean() == pytest.approx(w @ np.abs(x), abs=0.01)
    assert np.mean(walk.pooled() > 0) == pytest.approx(0.5, abs=0.1)
    with pytest.raises(BadInput, match="finite"):
        crank_nicolson(lambda z: np.full(len(z), -np.inf), np.zeros((3, 1)), np.zeros(1), np.eye(1), 10, 5, 1)
    with pytest.raises(BadInput, match="enough"):
        crank_nicolson(ring, np.zeros((3, 1)), np.zeros(1), np.eye(1), 1, 5, 1)
