"""Scores of probabilistic forecasts: CRPS, energy score, interval score.

Samples are members first: ``sample`` is (N, ...) beside an observation of shape (...). Every score is
negatively oriented (smaller is better) and has the unit of the observation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from ..domain.errors import BadInput


def _pair(y: ArrayLike, sample: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Observation and sample as float arrays of matching shape, with at least one member."""
    obs, x = np.asarray(y, dtype=float), np.asarray(sample, dtype=float)
    if x.ndim == 0 or x.shape[0] == 0:
        raise BadInput("the forecast sample has no members", "scores")
    if x.shape[1:] != obs.shape:
        raise BadInput(
            f"the sample's shape {x.shape} does not fit observations of shape {obs.shape}",
            "scores",
            "put members first",
        )
    return obs, x


def crps_ensemble(y: ArrayLike, sample: ArrayLike, fair: bool = False) -> np.ndarray:
    """Continuous ranked probability score of a sample.

    ``mean |x - y| - 1/2 mean |x - x'|``, by sorting in O(N log N).

    Parameters
    ----------
    y : array_like, shape (...)
    sample : array_like, shape (N, ...)
    fair : bool
        Average ``|x - x'|`` over pairs of different members, N (N - 1) of them: the unbiased estimate
        of the score of the distribution the members were drawn from (Ferro 2014). Otherwise the
        score of the empirical distribution itself.

    Returns
    -------
    ndarray, shape (...)

    Raises
    ------
    BadInput
        If the shapes do not fit, or ``fair`` is asked of a single member.

    Notes
    -----
    Gneiting & Raftery (2007), J. Am. Stat. Assoc. 102:359, eq. 21. A NaN in the sample or in ``y``
    gives a NaN score in that place.

    Examples
    --------
    >>> float(crps_ensemble(0.0, [-1.0, 1.0]))
    0.5
    >>> float(crps_ensemble(0.0, [-1.0, 1.0], fair=True))
    0.0
    """
    obs, x = _pair(y, sample)
    n = x.shape[0]
    if fair and n < 2:
        raise BadInput("the fair CRPS needs at least two members", "scores")
    x = np.sort(x, axis=0)
    weight = (2.0 * np.arange(1, n + 1) - n - 1.0) / (n * (n - 1.0) if fair else n * n)
    pairs = (weight @ x.reshape(n, -1)).reshape(obs.shape)
    x -= obs
    return np.asarray(np.abs(x, out=x).sum(axis=0) / n - pairs)


def crps_gaussian(y: ArrayLike, mean: ArrayLike, sd: ArrayLike) -> np.ndarray:
    """CRPS of a normal forecast; ``sd`` zero gives the absolute error.

    Notes
    -----
    ``sd [z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi)]`` with ``z = (y - mean)/sd``
    (Gneiting & Raftery 2007, after eq. 20).
    """
    obs, mu, s = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (y, mean, sd)))
    if (s < 0).any():
        raise BadInput("a forecast's standard deviation is negative", "scores")
    z = (obs - mu) / np.where(s > 0, s, 1.0)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    score = s * (z * (2 * special.ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return np.asarray(np.where(s > 0, score, np.abs(obs - mu)))


def crps_weighted(y: ArrayLike, sample: ArrayLike, weights: ArrayLike) -> np.ndarray:
    """CRPS of a weighted sample; the weights are one per member, or one per member and place.

    Notes
    -----
    ``sum_i w_i |x_i - y| - 1/2 sum_ij w_i w_j |x_i - x_j|`` with weights that sum to one; equal
    weights give :func:`crps_ensemble`.
    """
    obs, x = _pair(y, sample)
    w = _weights(weights, x)
    order = np.argsort(x, axis=0)
    x, w = np.take_along_axis(x, order, 0), np.take_along_axis(w, order, 0)
    below = np.cumsum(w, axis=0) - w
    spread = np.sum(w * x * (2 * below + w - 1.0), axis=0)
    return np.asarray(np.sum(w * np.abs(x - obs), axis=0) - spread)


def _weights(weights: ArrayLike, x: np.ndarray) -> np.ndarray:
    """Weights broadcast to the sample and normalised."""
    w = np.asarray(weights, dtype=float)
    if w.shape[:1] != x.shape[:1] or (w.ndim > 1 and w.shape != x.shape):
        raise BadInput(f"weights of shape {w.shape} do not fit a sample of shape {x.shape}", "scores")
    w = np.broadcast_to(w.reshape(w.shape + (1,) * (x.ndim - w.ndim)), x.shape)
    total = w.sum(axis=0)
    if not np.isfinite(w).all() or (w < 0).any() or (total <= 0).any():
        raise BadInput("the weights of a sample are negative, not finite or all zero", "scores")
    return np.asarray(w / total)


def quantiles(sample: ArrayLike, levels: ArrayLike, weights: ArrayLike | None = None) -> np.ndarray:
    """Quantiles of a (weighted) sample, shape (levels, ...).

    Notes
    -----
    Linear between plotting positions ``i/(N + 1)`` (Hyndman & Fan type 6): the interval between the
    5 % and 95 % quantiles of N exchangeable draws then holds the next draw with probability 0.90,
    also for small N, as long as the levels lie inside ``1/(N+1) .. N/(N+1)``. Weighted: the position is
    the middle of each member's weight, scaled alike with the effective number of members.
    """
    x, q = np.asarray(sample, dtype=float), np.atleast_1d(np.asarray(levels, dtype=float))
    if x.ndim == 0 or x.shape[0] == 0:
        raise BadInput("the forecast sample has no members", "scores")
    if ((q < 0) | (q > 1)).any():
        raise BadInput("a quantile's level lies outside 0..1", "scores")
    if weights is None:
        return np.asarray(np.quantile(x, q, axis=0, method="weibull"))
    w = _weights(weights, x)
    order = np.argsort(x, axis=0)
    flat = np.take_along_axis(x, order, 0).reshape(x.shape[0], -1)
    w = np.take_along_axis(w, order, 0).reshape(flat.shape)
    size = 1.0 / np.sum(w**2, axis=0)
    middle = (np.cumsum(w, axis=0) - 0.5 * w) * size / (size + 1) + 0.5 / (size + 1)
    out = np.stack([np.interp(q, middle[:, j], flat[:, j]) for j in range(flat.shape[1])], axis=-1)
    return out.reshape(q.shape + x.shape[1:])


def interval_score(y: ArrayLike, lower: ArrayLike, upper: ArrayLike, level: float) -> np.ndarray:
    """Interval (Winkler) score of a central interval of probability ``level``.

    Notes
    -----
    ``(u - l) + 2/a max(l - y, 0) + 2/a max(y - u, 0)`` with ``a = 1 - level``
    (Gneiting & Raftery 2007, eq. 43).
    """
    if not 0 < level < 1:
        raise BadInput(f"the level of an interval ({level:g}) is not between 0 and 1", "scores")
    obs, low, high = (np.asarray(v, dtype=float) for v in (y, lower, upper))
    if (high < low).any():
        raise BadInput("an interval's upper end lies below its lower end", "scores")
    miss = np.maximum(low - obs, 0.0) + np.maximum(obs - high, 0.0)
    return np.asarray(high - low + 2.0 / (1.0 - level) * miss)


def energy_score(y: ArrayLike, sample: ArrayLike, fair: bool = False) -> float:
    """Energy score of a sample of vectors: the CRPS of several quantities together.

    Parameters
    ----------
    y : array_like, shape (d,)
        In units made comparable beforehand: the norm is Euclidean.
    sample : array_like, shape (N, d)

    Notes
    -----
    Gneiting & Raftery (2007), eq. 22 with exponent 1; O(N^2 d) work, O(N^2) memory.
    """
    obs, x = _pair(y, sample)
    if obs.ndim != 1:
        raise BadInput("the energy score takes one vector of observations", "scores")
    n = x.shape[0]
    if fair and n < 2:
        raise BadInput("the fair energy score needs at least two members", "scores")
    # centred first, so that the expanded square loses no digits to a common mean
    x0 = x - x.mean(axis=0)
    square = np.sum(x0**2, axis=1)
    pairs = np.sqrt(np.maximum(square[:, None] + square[None, :] - 2 * x0 @ x0.T, 0.0))
    np.fill_diagonal(pairs, 0.0)
    first = np.linalg.norm(x - obs, axis=1).mean()
    return float(first - 0.5 * pairs.sum() / (n * (n - 1) if fair else n * n))
