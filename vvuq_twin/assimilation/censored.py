"""Censored observations: the Gaussian ones that stand for them.

A value below detection is not missing, and it is not the limit itself: it says that the reading lay in an
interval. Its likelihood, ``P(low <= f + noise <= high)`` of the predicted value f, is replaced by the Gaussian
one with which the posterior of f has the exact mean and variance, all of them together until they agree
(expectation propagation; Minka 2001). Every scheme then sees ordinary observations.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..domain.observations import Observations
from .intervals import interval_moments

SWEEPS, DAMPING, SETTLED = 60, 0.7, 1e-8
# A precision below this part of the prediction's own says nothing.
NOTHING = 1e-12


def equivalent(
    observations: Observations, mean: np.ndarray, anomalies: np.ndarray, joint: bool = True
) -> Observations:
    """The observations with Gaussian ones in place of those that are censored.

    Parameters
    ----------
    observations : Observations
    mean : ndarray, shape (m,)
        Of the members' predictions.
    anomalies : ndarray, shape (K, m)
        Of the predictions, over sqrt(K - 1).
    joint : bool
        Let all observations of the scan shape what each stands for, through the ensemble's covariance; without
        it each is matched to the prior alone, which costs nothing and takes no sampled correlation at its
        word.

    Returns
    -------
    Observations
        ``y`` and ``error.voxel`` of the censored ones are those of their stand-ins. A stand-in that says
        nothing has an error far above the ensemble's spread.

    Notes
    -----
    With ``f = mean + U^T u``, u standard normal, U the anomalies and the error's low-rank columns below them:
    a sweep takes each observation's site out of its marginal, finds the moments of the normal restricted by
    the interval, and puts the site back that gives them. All sites at once, damped.
    """
    hidden = np.flatnonzero(observations.censored)
    if not len(hidden):
        return observations
    error = observations.error
    assert observations.interval is not None
    low, high = (
        np.where(np.isnan(x), s * np.inf, x) for x, s in zip(observations.interval[hidden].T, (-1, 1))
    )
    noise = error.voxel**2
    U = np.concatenate([anomalies, error.factor.T])
    prior = np.maximum((U[:, hidden] ** 2).sum(axis=0), 1e-300)
    precision = np.where(observations.censored, 0.0, 1.0 / noise)
    pull = np.where(observations.censored, 0.0, np.nan_to_num(observations.y - mean) / noise)
    marginal, centre = prior, np.zeros(len(hidden))
    for _ in range(SWEEPS if joint else 1):
        if joint:
            marginal, centre = _marginals(U, precision, pull, hidden)
        own, to = precision[hidden], pull[hidden]
        # without the site; a marginal is never wider than the prior
        cavity = 1.0 / np.maximum(1.0 / marginal - own, 1.0 / prior)
        middle = cavity * (centre / marginal - to)
        total = cavity + noise[hidden]
        _, z, z_var = interval_moments(low - mean[hidden], high - mean[hidden], middle, np.sqrt(total))
        gain = cavity / total
        after = cavity - gain**2 * (total - z_var)
        moved = middle + gain * (z - middle)
        tau = np.maximum(1.0 / np.maximum(after, 1e-300) - 1.0 / cavity, 0.0)
        nu = np.where(tau > 0, moved / np.maximum(after, 1e-300) - middle / cavity, 0.0)
        step = DAMPING if joint else 1.0
        change = float(np.max(np.abs(tau - own) * prior, initial=0.0))
        precision[hidden] += step * (tau - own)
        pull[hidden] += step * (nu - to)
        if change < SETTLED:
            break
    keep = np.maximum(precision[hidden], NOTHING / prior)
    y, voxel = observations.y.copy(), np.array(error.voxel, dtype=float)
    voxel[hidden] = 1.0 / np.sqrt(keep)
    y[hidden] = mean[hidden] + np.where(precision[hidden] > NOTHING / prior, pull[hidden] / keep, 0.0)
    return replace(observations, y=y, error=replace(error, voxel=voxel), interval=None)


def _marginals(
    U: np.ndarray, precision: np.ndarray, pull: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Variance and mean (about the predicted mean) of the predictions ``rows`` given all sites."""
    posterior = np.linalg.inv(np.eye(len(U)) + (U * precision) @ U.T)
    centre = (posterior @ (U @ pull)) @ U[:, rows]
    variance = np.einsum("am,ab,bm->m", U[:, rows], posterior, U[:, rows], optimize=True)
    return np.maximum(variance, 1e-300), centre
