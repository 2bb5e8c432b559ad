"""The posterior's mode and its curvature there: the start and the metric of the sampler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from ..domain.errors import RunFailed
from ..domain.keys import generator
from .likelihood import BAD, Likelihood

_FLATTEST = 0.2  # the prior alone has curvature 1 in whitened scores


@dataclass(frozen=True)
class Laplace:
    """Gaussian approximation of the posterior in whitened scores.

    Parameters
    ----------
    mode : ndarray, shape (p,)
    covariance : ndarray, shape (p, p)
    factor : ndarray, shape (p, p)
        ``factor @ factor.T`` is the covariance.
    value : float
        Log posterior density at the mode, up to a constant.
    log_evidence : float
        Laplace's approximation of the log marginal likelihood.
    """

    mode: np.ndarray
    covariance: np.ndarray
    factor: np.ndarray
    value: float
    log_evidence: float


def laplace(likelihood: Likelihood, seed: int, starts: int = 3, step: float = 1e-3) -> Laplace:
    """Find the mode by L-BFGS-B from the prior's centre and from keyed draws, and the curvature there.

    Parameters
    ----------
    likelihood : Likelihood
    seed : int
    starts : int
        The first is the prior's median; later ones are tried so that a second mode does not go unnoticed.
    step : float
        Of the central differences of the gradient, in standard deviations of the prior.

    Raises
    ------
    RunFailed
        If the model gives finite values from none of the starts.
    """
    size = likelihood.space.size
    draws = 0.5 * generator(seed, "calibration", "starts").standard_normal((max(starts, 1), size))
    draws[0] = 0.0
    best: Any = None

    def downhill(z: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = likelihood.posterior(z)
        return -value, -gradient

    for start in draws:
        if likelihood(start)[0] <= BAD:
            continue
        found = optimize.minimize(
            downhill,
            start,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 500, "ftol": 1e-10, "gtol": 1e-5},
        )
        if best is None or found.fun < best.fun:
            best = found
    if best is None:
        raise RunFailed("the model gives no finite prediction anywhere near the middle of the prior")
    mode = np.asarray(best.x, dtype=float)
    hessian = np.empty((size, size))
    for i in range(size):
        e = np.zeros(size)
        e[i] = step
        hessian[i] = (likelihood.posterior(mode - e)[1] - likelihood.posterior(mode + e)[1]) / (2 * step)
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    values = np.maximum(values, _FLATTEST)
    factor = vectors / np.sqrt(values)
    evidence = float(-best.fun - 0.5 * np.log(values).sum())
    return Laplace(mode, factor @ factor.T, factor, float(-best.fun), evidence)
