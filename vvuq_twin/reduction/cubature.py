"""The projected square as a few squares: exact from the tensor, or fitted at a few hundred voxels.

The logistic term needs ``Q(a) = V^T (V a)^2``. Both forms here are ``Q(a) = L^T (P a)^2`` with rows P of
sample functionals and a lift L:

- *exact*: every product ``a_i a_j`` is a combination of squares (polarisation), L holds the tensor
  ``sum_x V_xi V_xj V_xl``; r (r + 1) / 2 rows, for small r;
- *fitted*: P are the basis' rows at m voxels chosen by pivoted QR of the training's squared fields, L the least
  squares fit of Q over the training's states and sums of two of them (hyper-reduction: Drmac & Gugercin
  2016 for the choice, Everson & Sirovich 1995 for the fit). The work falls from r^3 to 4 r m.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from ..domain.keys import generator

_BLOCK = 4096
#: Candidate voxels and states among which the voxels are chosen.
CANDIDATES, CHOOSING = 4000, 700
#: States the fit learns from (with as many sums and differences of two).
TAUGHT = 1000
#: Singular values of the fit below this (relative) are dropped.
CUT = 1e-9


def square(vectors: np.ndarray, states: np.ndarray, block: int = _BLOCK) -> np.ndarray:
    """``V^T (V a)^2`` of states (S, r) by summation over all voxels, (S, r)."""
    out = np.zeros_like(states)
    for start in range(0, len(vectors), block):
        rows = vectors[start : start + block]
        u = states @ rows.T
        out += (u * u) @ rows
    return out


def polarised(size: int) -> np.ndarray:
    """Functionals ``e_i`` and ``e_i + e_j`` (i < j), shape (size (size + 1) / 2, size)."""
    i, j = np.triu_indices(size, 1)
    eye = np.eye(size)
    return np.concatenate([eye, eye[i] + eye[j]])


def exact_square(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points and lift of the exact projection for V (n, r): the third-order tensor by polarisation."""
    size = vectors.shape[1]
    i, j = np.triu_indices(size, 1)
    pairs = np.zeros((len(i), size))
    diagonal = np.zeros((size, size))
    for start in range(0, len(vectors), _BLOCK):
        rows = vectors[start : start + _BLOCK]
        pairs += (rows[:, i] * rows[:, j]).T @ rows
        diagonal += (rows * rows).T @ rows
    np.subtract.at(diagonal, i, pairs)
    np.subtract.at(diagonal, j, pairs)
    return polarised(size), np.concatenate([diagonal, pairs])


def fitted_square(
    vectors: np.ndarray, states: np.ndarray, points: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points and lift fitted to the training's states.

    Parameters
    ----------
    vectors : ndarray, shape (n, r)
    states : ndarray, shape (S, r)
        Coefficients of the training's fields, each of norm about one.
    points : int
    seed : int

    Returns
    -------
    points : ndarray, shape (m, r)
    lift : ndarray, shape (m, r)
    """
    random = generator(seed, "reduction", "cubature")
    some = states[np.sort(random.choice(len(states), min(CHOOSING, len(states)), replace=False))]
    energy = ((vectors @ some.T[:, :64]) ** 2).sum(axis=1)
    chance = 0.8 * np.sqrt(energy) / np.sqrt(energy).sum() + 0.2 / len(vectors)
    count = min(len(vectors), CANDIDATES)
    candidates = np.sort(random.choice(len(vectors), count, replace=False, p=chance))
    squares = (some @ vectors[candidates].T) ** 2
    pivots = linalg.qr(squares, mode="r", pivoting=True, check_finite=False)[1]
    rows = vectors[candidates[np.sort(pivots[: min(points, count)])]]
    # sums of two states teach the fit the products between them
    states = states[np.sort(random.choice(len(states), min(TAUGHT, len(states)), replace=False))]
    other = states[random.permutation(len(states))]
    taught = np.concatenate([states, 0.5 * (states + other), 0.5 * (states - other)])
    features = (taught @ rows.T) ** 2
    scale = np.linalg.norm(features, axis=0)
    scale[scale == 0] = 1.0
    wanted = square(vectors, taught)
    normal = (features / scale).T @ (features / scale)
    values, axes = np.linalg.eigh(normal)
    keep = values > CUT * values[-1]
    axes = axes[:, keep]
    fit = axes @ ((axes.T @ ((features / scale).T @ wanted)) / values[keep, None])
    return rows, fit / scale[:, None]
