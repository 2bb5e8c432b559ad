"""Posterior predictive check: do data drawn from the calibrated model look like the data?"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..domain.keys import member_normals
from .likelihood import Likelihood


def predictive_check(likelihood: Likelihood, z: np.ndarray, seed: int, draws: int = 200) -> dict[str, Any]:
    """Compare the observations with replicated ones.

    Parameters
    ----------
    likelihood : Likelihood
    z : ndarray, shape (n, p)
        Posterior draws; ``draws`` of them, evenly spaced, are used.
    seed : int
        Keys the replicated errors.
    draws : int

    Returns
    -------
    dict
        ``p_value``: share of draws whose replicated misfit ``(y - f)^T R^-1 (y - f)`` exceeds the observed
        one (Gelman, Meng & Stern 1996; near 0 the model misses the data, near 1 the error is too wide);
        ``coverage_50``, ``coverage_90``: observations inside the replicated intervals;
        ``misfit_per_observation`` (about 1); ``mean_residual_over_error``; ``observations``, ``draws``.
    """
    take = np.unique(np.linspace(0, len(z) - 1, min(draws, len(z))).astype(int))
    chosen = z[take]
    error, y = likelihood.observations.error, likelihood.observations.y
    predicted = likelihood.predictions(chosen)
    scale = np.ones(len(chosen))
    if likelihood.scale is not None:
        scale = np.asarray(likelihood.space.from_gaussian(chosen))[
            :, likelihood.space.index(likelihood.scale)
        ]
    finite = np.isfinite(predicted).all(axis=1)
    predicted, scale, take = predicted[finite], scale[finite], take[finite]
    normals = member_normals(seed, "calibration-predictive", take.tolist(), len(y) + error.factor.shape[1])
    noise = error.perturbations(normals) * scale[:, None]
    replicated = predicted + noise

    def misfit(residual: np.ndarray) -> np.ndarray:
        return np.einsum("nm,mn->n", residual, error.solve(residual.T)) / scale**2

    observed, expected = misfit(y - predicted), misfit(noise)
    low90, low50, high50, high90 = np.quantile(replicated, [0.05, 0.25, 0.75, 0.95], axis=0)
    sd = np.sqrt(error.variance()) * np.median(scale)
    return {
        "p_value": float((expected >= observed).mean()),
        "misfit_per_observation": float(observed.mean() / len(y)),
        "coverage_50": float(((y >= low50) & (y <= high50)).mean()),
        "coverage_90": float(((y >= low90) & (y <= high90)).mean()),
        "mean_residual_over_error": float(((y - predicted.mean(axis=0)) / sd).mean()),
        "observations": len(y),
        "draws": len(take),
    }
