"""The projected loss of the growth law: exact from the tensor for the logistic one, or fitted at a few hundred voxels.

The logistic term needs ``Q(a) = V^T (V a)^2``, another law ``V^T phi(V a)`` (:mod:`~vvuq_twin.reduction.law`). Both
forms here are ``Q(a) = L^T phi(P a)`` with rows P of sample functionals and a lift L:

- *exact*, for the square: every product ``a_i a_j`` is a combination of squares (polarisation), L holds the tensor
  ``sum_x V_xi V_xj V_xl``; r (r + 1) / 2 rows, for small r;
- *fitted*: P are the basis' rows at m voxels chosen by pivoted QR of the training's fields of phi, L the least
  squares fit of Q over the training's states and sums of two of them (hyper-reduction: Drmac & Gugercin
  2016 for the choice, Everson & Sirovich 1995 for the fit). The work falls from r^3 to 4 r m.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from ..domain.keys import generator
from .law import loss

_BLOCK = 4096
_STATES, _VOXELS = 512, 1024
#: Voxels per mode if nothing is said.
POINTS = 4
#: Candidate voxels and states among which the voxels are chosen.
CANDIDATES, CHOOSING = 4000, 700
#: States the fit learns from (with as many sums and differences of two).
TAUGHT = 1000
#: Singular values of the fit below this (relative) are dropped.
CUT = 1e-9


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


def projected(vectors: np.ndarray, states: np.ndarray, exponent: float) -> np.ndarray:
    """``V^T phi(V a)`` of states (S, r) by summation over all voxels, (S, r); in tiles that stay in the cache."""
    out = np.zeros_like(states)
    for first in range(0, len(states), _STATES):
        some, sums = states[first : first + _STATES], out[first : first + _STATES]
        for start in range(0, len(vectors), _VOXELS):
            rows = vectors[start : start + _VOXELS]
            sums += loss(some @ rows.T, exponent) @ rows
    return out


def fitted_loss(
    vectors: np.ndarray, states: np.ndarray, points: int, seed: int, exponent: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Points and lift fitted to the training's states.

    Parameters
    ----------
    vectors : ndarray, shape (n, r)
    states : ndarray, shape (S, r)
        Coefficients of the training's fields, each of norm about one.
    points : int
    seed : int
    exponent : float
        Of the growth law.

    Returns
    -------
    points : ndarray, shape (m, r)
    lift : ndarray, shape (m, r)

    Notes
    -----
    The states' size does not matter to a power law. Gompertz's loss of ``c u`` is c times that of u plus
    ``c log(c) u``: the lift is fitted to return the states themselves too, and then its size does not matter either.
    """
    random = generator(seed, "reduction", "cubature")
    some = states[np.sort(random.choice(len(states), min(CHOOSING, len(states)), replace=False))]
    energy = ((vectors @ some.T[:, :64]) ** 2).sum(axis=1)
    chance = 0.8 * np.sqrt(energy) / np.sqrt(energy).sum() + 0.2 / len(vectors)
    count = min(len(vectors), CANDIDATES)
    candidates = np.sort(random.choice(len(vectors), count, replace=False, p=chance))
    pivots = linalg.qr(
        loss(some @ vectors[candidates].T, exponent), mode="r", pivoting=True, check_finite=False
    )[1]
    rows = vectors[candidates[np.sort(pivots[: min(points, count)])]]
    # sums of two states teach the fit the products between them
    states = states[np.sort(random.choice(len(states), min(TAUGHT, len(states)), replace=False))]
    other = states[random.permutation(len(states))]
    taught = np.concatenate([states, 0.5 * (states + other), 0.5 * (states - other)])
    if exponent != 1.0:
        # a difference of two states is no cellularity: only the square makes sense of negative values
        taught = taught[: 2 * len(states)]
    features, wanted = loss(taught @ rows.T, exponent), projected(vectors, taught, exponent)
    if exponent == 0.0:
        features, wanted = np.concatenate([features, taught @ rows.T]), np.concatenate([wanted, taught])
    scale = np.linalg.norm(features, axis=0)
    scale[scale == 0] = 1.0
    normal = (features / scale).T @ (features / scale)
    values, axes = np.linalg.eigh(normal)
    keep = values > CUT * values[-1]
    axes = axes[:, keep]
    fit = axes @ ((axes.T @ ((features / scale).T @ wanted)) / values[keep, None])
    return rows, fit / scale[:, None]
