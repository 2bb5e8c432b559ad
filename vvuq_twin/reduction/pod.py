"""Proper orthogonal decomposition by the method of snapshots, memory-flat and in one or two levels.

The inner product is Euclidean (uniform voxels). Snapshots are rows ``(m, n)``; only their ``m x m``
Gram matrix is formed, in blocks over voxels (Sirovich 1987). :func:`compress` does the same for one
batch of runs, so that batches travel and are stored small, and their results are decomposed together
(hierarchical POD, Himpe, Leibner & Rave 2018: the tail energies of the two levels add).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

_BLOCK = 65536
_VOXELS = 20000


@dataclass(frozen=True)
class Basis:
    """Orthonormal columns and the singular values they came from.

    Parameters
    ----------
    vectors : ndarray, shape (n, r)
        Orthonormal; each column's entry of largest modulus is positive.
    singular_values : ndarray, shape (m,)
        Of the snapshot matrix, decreasing, truncated ones included.
    """

    vectors: np.ndarray
    singular_values: np.ndarray

    @property
    def rank(self) -> int:
        return int(self.vectors.shape[1])

    @property
    def tail(self) -> float:
        """Relative energy left out: sqrt(sum of truncated sigma^2 / sum of all)."""
        energy = self.singular_values**2
        total = float(energy.sum())
        return float(np.sqrt(energy[self.rank :].sum() / total)) if total > 0 else 0.0


def gram(snapshots: np.ndarray, block: int = _BLOCK) -> np.ndarray:
    """``S S^T`` of snapshots (m, n), summed over blocks of voxels in a fixed order; shape (m, m)."""
    out = np.zeros((len(snapshots), len(snapshots)))
    for start in range(0, snapshots.shape[1], block):
        part = np.asarray(snapshots[:, start : start + block], dtype=float)
        out += part @ part.T
    return 0.5 * (out + out.T)


def _spectrum(snapshots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decreasing singular values and left singular vectors of the snapshot rows, from the Gram matrix."""
    values, vectors = np.linalg.eigh(gram(snapshots))
    order = np.argsort(values)[::-1]
    return np.sqrt(np.maximum(values[order], 0.0)), vectors[:, order]


def rank_for(singular_values: np.ndarray, tolerance: float, max_rank: int | None = None) -> int:
    """Smallest r whose relative tail energy is at most ``tolerance``, never above ``max_rank``.

    Directions below the square root of round-off (which the Gram matrix cannot tell from zero) do
    not count.
    """
    energy = singular_values**2
    if not len(energy) or energy[0] <= 0:
        return 0
    tail = np.append(np.cumsum(energy[::-1])[::-1], 0.0)
    r = int(np.argmax(tail <= tolerance**2 * energy.sum()))
    r = min(r, int((singular_values > 3e-8 * singular_values[0]).sum()))
    return max(1, r if max_rank is None else min(r, max_rank))


def pod(
    snapshots: np.ndarray, tolerance: float = 1e-4, max_rank: int | None = None, voxels: int = _VOXELS
) -> Basis:
    """POD basis of snapshot rows.

    Parameters
    ----------
    snapshots : ndarray, shape (m, n)
    tolerance : float
        Relative tail energy (root of the truncated part of the sum of squares) at most this.
    max_rank : int, optional
    voxels : int
        The Gram matrix of more voxels than this is estimated from every so-many-th: which
        combinations of the snapshots matter does not take all of them to see.

    Returns
    -------
    Basis
        ``vectors`` of shape (n, r).
    """
    stride = max(1, snapshots.shape[1] // voxels)
    sigma, left = _spectrum(snapshots[:, ::stride])
    sigma = sigma * np.sqrt(stride)
    r = rank_for(sigma, tolerance, max_rank)
    if r == 0:
        return Basis(np.zeros((snapshots.shape[1], 0)), sigma)
    # the small ones among V = S^T U / sigma have lost digits
    vectors = orthonormal(snapshots.T @ (left[:, :r] / sigma[:r]))
    largest = np.abs(vectors).argmax(axis=0)
    return Basis(vectors * np.sign(vectors[largest, np.arange(r)]), sigma)


def orthonormal(columns: np.ndarray) -> np.ndarray:
    """Orthonormal columns of the same nested spans as ``columns`` (n, r), n at least r, each turned to its own side.

    Cholesky QR done twice (Yamamoto et al. 2015, doi:10.1553/etna_vol44s306), which is products and solves with
    few passes over n; Householder's QR where the columns are too near dependence for it.
    """
    once = columns
    for _ in range(2):
        try:
            lower = np.linalg.cholesky(once.T @ once)
        except np.linalg.LinAlgError:
            break
        once = linalg.solve_triangular(lower, once.T, lower=True, check_finite=False).T
    else:
        # what the first pass left must have been small, or the second did not clear it
        if np.abs(lower - np.eye(len(lower))).max() < 0.1:
            return np.asarray(once)
    vectors, upper = np.linalg.qr(columns)
    return np.asarray(vectors * np.where(np.diag(upper) < 0, -1.0, 1.0))


def compress(snapshots: np.ndarray, tolerance: float = 1e-6) -> tuple[np.ndarray, np.ndarray]:
    """Few rows with (nearly) the same second moments: ``sigma_i v_i``, shape (k, n), and the mix (m, k) of
    them that gives the snapshots back.

    The snapshot matrix is replaced by its truncated singular vectors scaled by their values, so that
    a decomposition of several such results equals that of all snapshots up to ``tolerance``.
    """
    sigma, left = _spectrum(snapshots)
    mix = left[:, : rank_for(sigma, tolerance)]
    return mix.T @ snapshots, mix
