"""Empirical interpolation: a field from a few of its own entries.

A POD basis U of the field's snapshots and as many entries, chosen by pivoted QR of U^T (Drmac & Gugercin 2016, SIAM
J. Sci. Comput. 38:A631, after Barrault et al. 2004 and Chaturantabut & Sorensen 2010): ``w = U (P^T U)^-1 P^T w``
within the basis' tail times ``|(P^T U)^-1|``. Where the field is affine in the parameters with few terms the interpolant
is exact to round-off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from .pod import pod


@dataclass(frozen=True)
class Interpolated:
    """A basis and its entries.

    Parameters
    ----------
    modes : ndarray, shape (d, k)
        Fields whose entries at ``points`` are the unit vectors: the coefficients are the entries.
    points : ndarray of int, shape (k,)
    growth : float
        Norm of ``(P^T U)^-1``: how far the interpolation error may exceed the projection's.
    """

    modes: np.ndarray
    points: np.ndarray
    growth: float


def interpolated(snapshots: np.ndarray, tolerance: float, max_rank: int | None = None) -> Interpolated:
    """From snapshot rows (m, d), each scaled to norm one; zero rows do not count.

    Parameters
    ----------
    tolerance : float
        Relative energy of the snapshots that the basis may leave out.
    """
    size = np.linalg.norm(snapshots, axis=1)
    basis = pod(snapshots[size > 0] / size[size > 0, None], tolerance, max_rank, voxels=snapshots.shape[1])
    u = basis.vectors
    if u.shape[1] == 0:
        return Interpolated(u, np.zeros(0, np.int64), 1.0)
    points = linalg.qr(u.T, mode="r", pivoting=True, check_finite=False)[1][: u.shape[1]]
    inverse = np.linalg.inv(u[points])
    return Interpolated(u @ inverse, points.astype(np.int64), float(np.linalg.norm(inverse, 2)))
