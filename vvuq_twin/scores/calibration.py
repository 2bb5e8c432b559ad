"""Is a probabilistic forecast honest? Coverage of intervals and the probability integral transform."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput
from .probability import _pair, quantiles


def central_interval(
    sample: ArrayLike, level: float, weights: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the central interval of probability ``level`` of a (weighted) sample."""
    if not 0 < level < 1:
        raise BadInput(f"the level of an interval ({level:g}) is not between 0 and 1", "scores")
    low, high = quantiles(sample, [0.5 - level / 2, 0.5 + level / 2], weights)
    return low, high


def inside(y: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> np.ndarray:
    """Whether each observation lies in its interval, the ends included."""
    obs = np.asarray(y, dtype=float)
    return np.asarray((obs >= np.asarray(lower)) & (obs <= np.asarray(upper)))


def coverage(y: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> float:
    """Fraction of the observations inside their intervals; missing (NaN) observations do not count."""
    obs = np.asarray(y, dtype=float)
    present = np.isfinite(obs)
    if not present.any():
        raise BadInput("there is no observation to judge coverage by", "scores")
    return float(inside(obs, lower, upper)[present].mean())


def pit(y: ArrayLike, sample: ArrayLike, uniforms: ArrayLike) -> np.ndarray:
    """Randomised probability integral transform of observations in their forecast samples.

    Parameters
    ----------
    y : array_like, shape (...)
    sample : array_like, shape (N, ...)
    uniforms : array_like, shape (...)
        Keyed uniform draws on [0, 1] that break ties and fill the steps.

    Returns
    -------
    ndarray, shape (...)
        ``(below + u (1 + equal)) / (N + 1)``: exactly uniform where the observation is exchangeable
        with the members (Czado, Gneiting & Held 2009; the rank histogram is its histogram).
    """
    obs, x = _pair(y, sample)
    below, equal = (x < obs).sum(axis=0), (x == obs).sum(axis=0)
    return np.asarray((below + np.asarray(uniforms) * (1.0 + equal)) / (x.shape[0] + 1.0))
