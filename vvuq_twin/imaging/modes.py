"""Smooth random fields on scattered points as a few modes and an independent remainder."""

from __future__ import annotations

import numpy as np

from ..domain.errors import BadInput


def squared_exponential(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    """Correlation ``exp(-|a - b|^2 / (2 length^2))``, shapes (m, d), (p, d) to (m, p)."""
    square = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2.0 * a @ b.T
    return np.exp(-np.maximum(square, 0.0) / (2.0 * length**2))


def smooth_modes(
    coords: np.ndarray, sd: float, length: float, modes: int, tolerance: float = 1e-6
) -> tuple[np.ndarray, np.ndarray]:
    """Modes of a Gaussian process with squared-exponential covariance at given points.

    Pivoted Cholesky picks points and columns greedily until the covariance's trace is exhausted or
    there are three times as many as wanted (at least 64); the leading eigenvectors of that factor are
    kept. Work and memory are O(m modes^2) and O(m modes); the m x m covariance is never formed
    (Harbrecht, Peters & Schneider 2012, Applied Numerical Mathematics 62:428).

    Parameters
    ----------
    coords : ndarray, shape (m, d)
        mm.
    sd : float
        Standard deviation of the field; 0 gives no modes.
    length : float
        Correlation length, mm.
    modes : int
        How many to keep at most.
    tolerance : float
        Fraction of the trace that may be left before the greedy choice stops.

    Returns
    -------
    factor : ndarray, shape (m, q), q <= modes
        ``factor @ factor.T`` approximates the covariance from below.
    left : ndarray, shape (m,)
        What is missing on the diagonal, not negative: ``sd^2 - (factor^2).sum(1)``.

    Raises
    ------
    BadInput
        If the length is not positive or the standard deviation negative.
    """
    coords = np.asarray(coords, dtype=float)
    m = len(coords)
    if sd < 0 or not length > 0:
        raise BadInput(f"sd {sd:g} and length {length:g} make no smooth field", "representation error")
    if sd == 0 or modes == 0 or m == 0:
        return np.zeros((m, 0)), np.full(m, sd**2)
    centred = coords - coords.mean(axis=0)
    most = min(m, max(3 * modes, 64))
    factor = np.zeros((m, most))
    left = np.ones(m)
    used = 0
    while used < most:
        pivot = int(np.argmax(left))
        if left.sum() <= tolerance * m or left[pivot] <= 1e-12:
            break
        column = squared_exponential(centred, centred[pivot : pivot + 1], length)[:, 0]
        column -= factor[:, :used] @ factor[pivot, :used]
        factor[:, used] = column / np.sqrt(left[pivot])
        left = np.maximum(left - factor[:, used] ** 2, 0.0)
        left[pivot] = 0.0
        used += 1
    factor = factor[:, :used]
    # the leading eigenvectors of factor @ factor.T, from the small Gram matrix
    vectors = np.linalg.eigh(factor.T @ factor)[1]
    kept = factor @ vectors[:, ::-1][:, : min(modes, used)]
    kept *= np.where(
        kept[np.abs(kept).argmax(axis=0), np.arange(kept.shape[1])] < 0, -1.0, 1.0
    )  # a fixed sign
    missing = np.maximum(1.0 - (kept**2).sum(axis=1), 0.0)
    return sd * kept, sd**2 * missing
