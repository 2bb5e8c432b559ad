"""Galerkin projection of the growth equation: affine diffusion, quadratic reaction, diagonal drug kill.

With ``N = V a``, V orthonormal, the semi-discrete full order

    dN/dt = sum_g c_g(D) A_g N + k N (1 - N) - kappa(t) (1 + e (w - 1)) N

becomes, exactly,

    da/dt = sum_g c_g(D) (V^T A_g V) a + k (a - T:a a) - kappa(t) (1 + e (omega - 1)) a,

``T_ijl = sum_x V_xi V_xj V_xl`` (symmetric), held as ``T:a a = L^T (P a)^2``, exact or fitted
(:mod:`~vvuq_twin.reduction.cubature`); another growth law's loss is ``L^T phi(P a)``, fitted. V is rotated so that ``V^T diag(w) V = diag(omega)``: the
kill is then one exponential per coefficient. A fraction of radiotherapy is one factor for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .cubature import exact_square

PAD = 8


class GrowthOperators(NamedTuple):
    """Arrays of the reduced growth model, padded with zeros from its rank to ``size`` (a multiple of 8).

    Parameters
    ----------
    diffusion : array, shape (G, size, size)
        ``V^T A_g V`` of each face group.
    points, lift : array, shape (m, size)
        The projected loss of the growth law, ``L^T phi(P a)``; the square for logistic growth.
    omega : array, shape (size,)
        Eigenvalues of the projected relative exposure.
    total : array, shape (size,)
        ``sum_x V_x``: the sum over voxels is linear in the coefficients.
    spectral : float
        Largest modulus of the eigenvalues of the sum of the groups' terms: times the largest conductance
        it bounds the diffusion's rate.
    """

    diffusion: Any
    points: Any
    lift: Any
    omega: Any
    total: Any
    spectral: Any


def padded(rank: int, multiple: int = PAD) -> int:
    """The next multiple of ``multiple``, at least one."""
    return max(multiple, -(-rank // multiple) * multiple)


def rotate_to_exposure(vectors: np.ndarray, exposure: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Rotate orthonormal columns so that the projected exposure is diagonal.

    Parameters
    ----------
    vectors : ndarray, shape (n, r)
    exposure : ndarray, shape (n,), or None for a uniform one

    Returns
    -------
    vectors : ndarray, shape (n, r)
    omega : ndarray, shape (r,)
        Increasing.
    """
    r = vectors.shape[1]
    if exposure is None:
        return vectors, np.ones(r)
    small = vectors.T @ (exposure[:, None] * vectors)
    omega, turn = np.linalg.eigh(0.5 * (small + small.T))
    turned = vectors @ turn
    largest = np.abs(turned).argmax(axis=0)
    return turned * np.sign(turned[largest, np.arange(r)]), omega


def project(
    vectors: np.ndarray,
    terms: Sequence[Any],
    rows: np.ndarray,
    omega: np.ndarray,
    fitted: tuple[np.ndarray, np.ndarray] | None = None,
) -> GrowthOperators:
    """Operators of the reduced model.

    Parameters
    ----------
    vectors : ndarray, shape (n_rows, r)
        Orthonormal basis on the voxels ``rows``; zero elsewhere.
    terms : sequence of sparse matrices, shape (n, n)
        ``A_g`` of unit conductance, of each face group.
    rows : ndarray of int, shape (n_rows,)
    omega : ndarray, shape (r,)
        From :func:`rotate_to_exposure`.
    fitted : tuple of ndarray, optional
        Points and lift of the loss, each (m, r); the exact ones of the square by default.
    """
    r = vectors.shape[1]
    size = padded(r)
    diffusion = np.zeros((len(terms), size, size))
    for g, term in enumerate(terms):
        small = vectors.T @ (term.tocsr()[rows][:, rows] @ vectors)
        diffusion[g, :r, :r] = 0.5 * (small + small.T)
    spectral = float(np.abs(np.linalg.eigvalsh(diffusion.sum(axis=0))).max())
    points, lift = exact_square(vectors) if fitted is None else fitted
    extra = ((0, 0), (0, size - r))
    full_omega, total = np.ones(size), np.zeros(size)
    full_omega[:r] = omega
    total[:r] = vectors.sum(axis=0)
    return GrowthOperators(
        diffusion, np.pad(points, extra), np.pad(lift, extra), full_omega, total, np.asarray(spectral)
    )
