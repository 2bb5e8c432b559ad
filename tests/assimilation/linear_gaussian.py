"""The exact answer in the linear-Gaussian case, and ensembles whose sample moments are the prior's own."""

import numpy as np
from filterpy.kalman import KalmanFilter

from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError, Observations


def exact_ensemble(mean, cov, size, seed):
    """(size, n) members whose sample mean and covariance are ``mean`` and ``cov`` to round-off."""
    x = generator(seed, "exact ensemble").standard_normal((size, len(mean)))
    x -= x.mean(axis=0)
    x = np.linalg.solve(np.linalg.cholesky(np.cov(x.T).reshape(len(mean), -1)), x.T).T
    return mean + x @ np.linalg.cholesky(cov).T


def dense(error):
    """R itself."""
    return np.diag(error.voxel**2) + error.factor @ error.factor.T


def kalman(mean, cov, H, y, error):
    """filterpy's Kalman filter: posterior mean and covariance of one linear observation."""
    kf = KalmanFilter(dim_x=len(mean), dim_z=len(y))
    kf.x, kf.P, kf.H, kf.R = mean[:, None].copy(), cov.copy(), H, dense(error)
    kf.update(y[:, None])
    return kf.x[:, 0], kf.P


def linear_case(n, m, seed, correlated):
    """A random linear-Gaussian problem: prior mean and covariance, operator, observations."""
    rng = generator(seed, "linear case", n, m)
    root = rng.standard_normal((n, n)) / np.sqrt(n)
    mean, cov = rng.standard_normal(n), root @ root.T + 0.1 * np.eye(n)
    H = rng.standard_normal((m, n))
    scan = 0.7 * np.column_stack([np.ones(m), np.linspace(-1, 1, m)]) if correlated else np.zeros((m, 0))
    rep = 0.5 * np.sin(np.linspace(0, 6, m))[:, None] if correlated else np.zeros((m, 0))
    error = ObservationError(0.3 + 0.4 * rng.uniform(size=m), scan, rep)
    y = (
        H @ rng.multivariate_normal(mean, cov)
        + error.perturbations(rng.standard_normal((1, m + 3 * correlated)))[0]
    )
    return mean, cov, H, Observations(y, error, np.zeros((m, 0)), ["scan 1"], 1.0)
