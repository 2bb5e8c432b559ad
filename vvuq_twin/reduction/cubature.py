"""The projected loss of the growth law: exact from the tensor for the logistic one, or fitted at a few hundred voxels.

The logistic term needs ``Q(a) = V^T (V a)^2``, another law ``V^T phi(V a)`` (:mod:`~vvuq_twin.reduction.law`). Both
forms here are ``Q(a) = L^T phi(P a)`` with rows P of sample functionals and a lift L:

- *exact*, for the square: every product ``a_i a_j`` is a combination of squares (polarisation), L holds the tensor
  ``sum_x V_xi V_xj V_xl``; r (r + 1) / 2 rows, for small r;
- *fitted*: P are the basis' rows at m voxels chosen by pivoted QR of the training's fields of phi, L a quadrature
  with weights that are not negative plus the least squares fit of what it leaves over, both over the training's states and
  sums of two of them (hyper-reduction: Drmac & Gugercin 2016 for the choice, Farhat et al. 2014 for the quadrature,
  Everson & Sirovich 1995 for the fit). The work falls from r^3 to 4 r m.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg, optimize

from ..domain.keys import generator
from .law import loss

_BLOCK = 4096
_STATES, _VOXELS = 512, 1024
#: Voxels per mode if nothing is said.
POINTS = 4
#: Candidate voxels among which the voxels are chosen, and combinations of states beyond their number that choose.
CANDIDATES, SPARE = 4000, 64
#: States the fit learns from per voxel of it (with as many sums and differences of two).
TAUGHT = 4
#: Squared singular values of the fit below this (relative) count for little (Tikhonov).
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
    """``V^T phi(V a)`` of states (S, r) by summation over all voxels, (S, r); in tiles that stay in the cache.

    Within a tile in single precision, which is a hundred times finer than what a fit leaves over.
    """
    out = np.zeros_like(states)
    for first in range(0, len(states), _STATES):
        some, sums = states[first : first + _STATES].astype(np.float32), out[first : first + _STATES]
        for start in range(0, len(vectors), _VOXELS):
            rows = vectors[start : start + _VOXELS].astype(np.float32)
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
    some = states[np.sort(random.choice(len(states), min(64, len(states)), replace=False))]
    energy = ((vectors @ some.T) ** 2).sum(axis=1)
    chance = 0.8 * np.sqrt(energy) / np.sqrt(energy).sum() + 0.2 / len(vectors)
    count = min(len(vectors), CANDIDATES)
    candidates = np.sort(random.choice(len(vectors), count, replace=False, p=chance))
    mixed = _mixed(states, vectors[candidates], exponent, points + SPARE, random)
    pivots = linalg.qr(mixed, mode="r", pivoting=True, check_finite=False)[1]
    rows = vectors[candidates[np.sort(pivots[: min(points, count)])]]
    # sums of two states teach the fit the products between them
    states = states[np.sort(random.choice(len(states), min(TAUGHT * points, len(states)), replace=False))]
    order = random.permutation(len(states))
    half_sum = 0.5 * (states + states[order])
    taught = np.concatenate([states, half_sum])
    wanted = projected(vectors, taught, exponent)
    if exponent == 1.0:
        # differences too, whose square follows: ((a - b)/2)^2 = a^2/2 + b^2/2 - ((a + b)/2)^2
        own = wanted[: len(states)]
        taught = np.concatenate([taught, 0.5 * (states - states[order])])
        wanted = np.concatenate([wanted, 0.5 * (own + own[order]) - wanted[len(states) :]])
    # of another law they teach nothing: a difference of two states is no cellularity
    features = loss(taught @ rows.T, exponent)
    if exponent == 0.0:
        features, wanted = np.concatenate([features, taught @ rows.T]), np.concatenate([wanted, taught])
    return rows, _lift(rows, features, wanted)


def _mixed(
    states: np.ndarray, rows: np.ndarray, exponent: float, count: int, random: np.random.Generator
) -> np.ndarray:
    """So many random combinations of all states' losses at the candidate voxels, shape (count, len(rows)).

    Pivots on these are as good as on all of them (Duersch & Gu 2017, doi:10.1137/15M1044680); a sample of the states
    would lack the few that grow fastest, and with them the voxels that only these reach.
    """
    out = np.zeros((count, len(rows)))
    for first in range(0, len(states), _STATES):
        some = states[first : first + _STATES]
        out += random.standard_normal((count, len(some))) @ loss(some @ rows.T, exponent)
    return out


def _lift(rows: np.ndarray, features: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Lift (m, r) from the loss at the voxels (T, m) to the projected one (T, r).

    First a quadrature: voxels' weights, none negative, as the sum over all voxels has them. Then the least squares fit of
    what it leaves over. A state unlike the training's, in whose direction the fit has learnt nothing, is left to the
    quadrature: its loss is not lost, and it saturates instead of growing without bound.
    """
    lift = _quadrature(rows, features, wanted)[:, None] * rows
    scale = np.linalg.norm(features, axis=0)
    scale[scale == 0] = 1.0
    scaled = features / scale
    values, axes = np.linalg.eigh(scaled.T @ scaled)
    shrunk = (axes.T @ (scaled.T @ (wanted - features @ lift))) / (values + CUT * values[-1])[:, None]
    return np.asarray(lift + (axes @ shrunk) / scale[:, None])


def _quadrature(rows: np.ndarray, features: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Weights w >= 0 of the voxels, shape (m,), that minimise ``|features diag(w) rows - wanted|``.

    As in energy-conserving sampling (Farhat, Avery, Chapman & Cortial 2014, doi:10.1002/nme.4668), but for few voxels and
    all states; by its normal equations, which are of the size m.
    """
    normal = (rows @ rows.T) * (features.T @ features)
    right = ((features.T @ wanted) * rows).sum(axis=1)
    scale = np.sqrt(np.maximum(np.diag(normal), 1e-300))
    values, axes = np.linalg.eigh(normal / scale / scale[:, None])
    values = np.maximum(values, 1e-12 * values[-1])
    root = np.sqrt(values)
    try:
        weights = optimize.nnls((axes * root).T, (axes.T @ (right / scale)) / root, maxiter=20 * len(rows))[0]
    except RuntimeError:  # it has not settled: the best weight for all voxels alike, the fit does the rest
        return np.full(len(rows), max(0.0, right.sum() / max(normal.sum(), 1e-300)))
    return np.asarray(weights / scale)
