"""Active subspaces: the directions of the parameters along which an output changes on average.

The eigenvectors of ``C = E[grad f grad f']`` over the whitened scores (Constantine 2015, Active Subspaces, SIAM,
doi:10.1137/1.9781611973860); an eigenvalue is the mean squared slope along its vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..domain.errors import BadInput
from ..domain.keys import generator


@dataclass(frozen=True)
class ActiveSubspace:
    """Eigenvalues and directions with their bootstrap.

    Parameters
    ----------
    values : ndarray, shape (p,)
        Falling.
    directions : ndarray, shape (p, p)
        Columns; the entry of largest modulus is positive.
    low, high : ndarray, shape (p,)
        Bootstrap interval of the eigenvalues.
    distance : ndarray, shape (p,)
        Mean distance (sine of the largest angle) of the bootstrapped subspaces of dimension 1 .. p from
        the estimate: small where there is a gap behind that dimension.
    samples : int
    """

    values: np.ndarray
    directions: np.ndarray
    low: np.ndarray
    high: np.ndarray
    distance: np.ndarray
    samples: int

    def dimension(self, share: float = 0.99) -> int:
        """Fewest directions that hold a share of the mean squared slope."""
        total = float(self.values.sum())
        if total <= 0:
            return 0
        return int(np.searchsorted(np.cumsum(self.values) / total, share - 1e-12) + 1)

    def activity(self, dimension: int) -> np.ndarray:
        """Activity scores (p,): ``sum_i lambda_i w_ij^2`` over the first directions (Constantine & Diaz 2017,
        doi:10.1016/j.ress.2017.01.013); they bound the total Sobol indices from above up to a constant."""
        return np.asarray(self.directions[:, :dimension] ** 2 @ self.values[:dimension])


def active_subspace(
    slopes: np.ndarray, seed: int, resamples: int = 200, confidence: float = 0.95
) -> ActiveSubspace:
    """Estimate the active subspace from gradients.

    Parameters
    ----------
    slopes : ndarray, shape (N, p) or (N, q, p)
        Gradients in whitened scores at draws of the prior; several outputs (in one unit, or divided by their
        standard deviations) count together.
    seed : int
        Keys the bootstrap over draws.
    resamples : int
    confidence : float

    Raises
    ------
    BadInput
        If there are fewer than two draws or a gradient is not finite.
    """
    g = np.asarray(slopes, dtype=float)
    g = g[:, None, :] if g.ndim == 2 else g
    if g.ndim != 3 or len(g) < 2 or not np.isfinite(g).all():
        raise BadInput("an active subspace needs finite gradients at two draws or more", "active subspace")
    n = len(g)
    outer = np.einsum("nqi,nqj->nij", g, g)
    values, directions = _eigen(outer.mean(axis=0))
    drawn = generator(seed, "active subspace").integers(n, size=(resamples, n))
    p = len(values)
    found, apart = np.zeros((resamples, p)), np.zeros((resamples, p))
    for b, rows in enumerate(drawn):
        found[b], other = _eigen(outer[rows].mean(axis=0))
        for r in range(1, p):
            cosines = np.linalg.svd(directions[:, :r].T @ other[:, :r], compute_uv=False)
            apart[b, r - 1] = np.sqrt(max(0.0, 1.0 - float(cosines.min()) ** 2))
    low, high = np.quantile(found, [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0)
    return ActiveSubspace(values, directions, low, high, apart.mean(axis=0), n)


def _eigen(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Falling eigenvalues and eigenvectors with a fixed sign."""
    values, vectors = np.linalg.eigh(matrix)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    largest = np.abs(vectors).argmax(axis=0)
    return values, vectors * np.sign(vectors[largest, np.arange(len(values))])
