"""Galerkin projection of the growth equation: affine diffusion, quadratic reaction, diagonal drug kill.

With ``N = V a``, V orthonormal, the semi-discrete full order

    dN/dt = sum_g c_g(D) A_g N + k N (1 - N) - kappa(t) (1 + e (w - 1)) N

becomes, exactly,

    da/dt = sum_g c_g(D) (V^T A_g V) a + k (a - T:a a) - kappa(t) (1 + e (omega - 1)) a,

``T_ijl = sum_x V_xi V_xj V_xl`` (symmetric). V is rotated so that ``V^T diag(w) V = diag(omega)``: the
kill is then one exponential per coefficient. A fraction of radiotherapy is one factor for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

PAD = 8
_BLOCK = 4096


class GrowthOperators(NamedTuple):
    """Arrays of the reduced growth model, padded with zeros from its rank to ``size`` (a multiple of 8).

    Parameters
    ----------
    diffusion : array, shape (G, size, size)
        ``V^T A_g V`` of each face group.
    quadratic : array, shape (size (size + 8) / 2, size)
        The symmetric tensor in the packing of :func:`pair_products`.
    omega : array, shape (size,)
        Eigenvalues of the projected relative exposure.
    total : array, shape (size,)
        ``sum_x V_x``: the sum over voxels is linear in the coefficients.
    spectral : array, shape (G,)
        Largest modulus of the eigenvalues of each group's term, for the stability bound.
    """

    diffusion: Any
    quadratic: Any
    omega: Any
    total: Any
    spectral: Any


def padded(rank: int, multiple: int = PAD) -> int:
    """The next multiple of ``multiple``, at least one."""
    return max(multiple, -(-rank // multiple) * multiple)


def pair_products(a: Any, xp: Any) -> Any:
    """Products ``a_i a_j`` of a (N, size), each pair at least once: 8 rows by the columns from there on.

    Returns
    -------
    array, shape (N, size (size + 8) / 2)
    """
    n, size = a.shape
    parts = [
        (a[:, i : i + PAD, None] * a[:, None, i:]).reshape(n, PAD * (size - i)) for i in range(0, size, PAD)
    ]
    return xp.concatenate(parts, axis=1)


def pair_weights(size: int) -> np.ndarray:
    """How often each product counts, so that the packed sum equals the sum over all i, j.

    Within a diagonal block both orders are present (weight 1), right of it only one (weight 2).
    """
    parts = []
    for i in range(0, size, PAD):
        w = np.full((PAD, size - i), 2.0)
        w[:, :PAD] = 1.0
        parts.append(w.ravel())
    return np.concatenate(parts)


def quadratic_tensor(vectors: np.ndarray, block: int = _BLOCK) -> np.ndarray:
    """Packed tensor ``sum_x V_xi V_xj V_xl`` for V (n, size), by matrix products over blocks of voxels.

    Rows of V that vanish do not cost anything if the caller leaves them out. Work n size^3, memory
    block x size^2 / 2.
    """
    n, size = vectors.shape
    out = np.zeros((size * (size + PAD) // 2, size))
    for start in range(0, n, block):
        rows = vectors[start : start + block]
        out += pair_products(rows, np).T @ rows
    return out * pair_weights(size)[:, None]


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
    vectors: np.ndarray, terms: Sequence[Any], rows: np.ndarray, omega: np.ndarray
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
    """
    r = vectors.shape[1]
    size = padded(r)
    diffusion = np.zeros((len(terms), size, size))
    spectral = np.zeros(len(terms))
    for g, term in enumerate(terms):
        small = vectors.T @ (term.tocsr()[rows][:, rows] @ vectors)
        small = 0.5 * (small + small.T)
        diffusion[g, :r, :r] = small
        spectral[g] = np.abs(np.linalg.eigvalsh(small)).max() if r else 0.0
    wide = np.zeros((len(vectors), size))
    wide[:, :r] = vectors
    full_omega = np.ones(size)
    full_omega[:r] = omega
    return GrowthOperators(diffusion, quadratic_tensor(wide), full_omega, wide.sum(axis=0), spectral)
