"""Mixture Kalman filter for scalar readings: Gaussian components, interval-censored readings, regimes.

A Gaussian mixture is carried as ``log_weight (..., K)``, ``mean (..., K, n)``, ``cov (..., K, n, n)``.
Leading axes are patients (or anything independent); K runs over hidden constants. Components of different
regimes are merged by their moments (the generalised pseudo-Bayes filter of first order; Ackerson & Fu
1970, Bar-Shalom, Li & Kirubarajan 2001, section 11.6), components of different constants never.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from .intervals import interval_moments


class Mixture(NamedTuple):
    """A Gaussian mixture; the weights need not be normalised."""

    log_weight: np.ndarray
    mean: np.ndarray
    cov: np.ndarray


def predict(state: Mixture, matrix: np.ndarray, shift: np.ndarray, noise: np.ndarray) -> Mixture:
    """Kalman prediction ``z' = matrix z + shift + N(0, noise)``; all arguments broadcast over components."""
    mean = np.einsum("...ij,...j->...i", matrix, state.mean) + shift
    cov = matrix @ state.cov @ np.swapaxes(matrix, -1, -2) + noise
    return Mixture(state.log_weight, mean, cov)


def update_interval(
    state: Mixture, low: np.ndarray, high: np.ndarray, variance: np.ndarray
) -> tuple[Mixture, np.ndarray]:
    """Condition on a reading of the first state component that is only known to lie in an interval.

    The reading is ``y = z_0 + N(0, variance)`` and ``low <= y <= high`` is what was seen (rounding, or below
    detection with ``low = -inf``). The posterior has the exact mean and covariance; its shape is taken as
    Gaussian.

    Parameters
    ----------
    state : Mixture
    low, high, variance : ndarray
        Broadcast against the components, shape (..., K).

    Returns
    -------
    state : Mixture
        Weights multiplied by the probability of the interval.
    log_likelihood : ndarray, shape (..., K)
    """
    total = state.cov[..., 0, 0] + variance
    centre = state.mean[..., 0]
    log_likelihood, y_mean, y_var = interval_moments(low, high, centre, np.sqrt(total))
    gain = state.cov[..., :, 0] / total[..., None]
    mean = state.mean + gain * (y_mean - centre)[..., None]
    cov = state.cov - gain[..., :, None] * gain[..., None, :] * (total - y_var)[..., None, None]
    return Mixture(state.log_weight + log_likelihood, mean, cov), log_likelihood


def collapse(states: list[Mixture]) -> Mixture:
    """Merge regimes: for each component one Gaussian with the mean and covariance of the list's mixture."""
    logs = np.stack([s.log_weight for s in states])
    top = logs.max(axis=0)
    safe = np.where(np.isfinite(top), top, 0.0)
    w = np.exp(logs - safe)
    total = w.sum(axis=0)
    share = np.where(total > 0, w / np.where(total > 0, total, 1.0), 1.0 / len(states))
    mean = sum(p[..., None] * s.mean for p, s in zip(share, states))
    cov = np.zeros_like(states[0].cov)
    for p, s in zip(share, states):
        d = s.mean - mean
        cov = cov + p[..., None, None] * (s.cov + d[..., :, None] * d[..., None, :])
    with np.errstate(divide="ignore"):
        return Mixture(safe + np.log(total), np.asarray(mean), cov)


def normalise(state: Mixture) -> tuple[Mixture, np.ndarray]:
    """Weights that sum to one over the components, and the log of what they summed to, shape (...)."""
    total = special.logsumexp(state.log_weight, axis=-1)
    return Mixture(state.log_weight - total[..., None], state.mean, state.cov), total


def mixture_cdf(x: np.ndarray, weight: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Distribution function of scalar Gaussian mixtures.

    Parameters
    ----------
    x : ndarray, shape (..., g)
    weight, mean, sd : ndarray, shape (..., C)

    Returns
    -------
    ndarray, shape (..., g)
    """
    z = (x[..., :, None] - mean[..., None, :]) / sd[..., None, :]
    return np.asarray((special.ndtr(z) * weight[..., None, :]).sum(axis=-1))
