"""A smaller reduced model from a larger one, for a narrower range of parameters.

A posterior spans far less than the prior a reduced model was trained on. The larger model's own
trajectories over that range give a POD of its coefficients; Galerkin projection on that basis is again a
reduced growth model, of a rank at which one member's gradient costs milliseconds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .case import GrowthCase
from .cubature import POINTS, fitted_loss
from .galerkin import padded, project, rotate_to_exposure
from .growth import ReducedGrowth, stepped


def restrict(reduced: ReducedGrowth, case: GrowthCase, theta: np.ndarray, rank: int) -> ReducedGrowth:
    """Reduce the reduced model to what some members visit.

    Parameters
    ----------
    reduced : ReducedGrowth
    case : GrowthCase
        Whose schedule the members run through.
    theta : ndarray, shape (N, p)
        Members that span the range wanted.
    rank : int

    Returns
    -------
    ReducedGrowth
        Without errors: measure them against ``reduced`` with :func:`distance`.
    """
    case = stepped(case, reduced.longest)
    states, a0, status = reduced.every_step(case, theta)
    good = np.flatnonzero(np.asarray(status) == 0)
    visited = np.concatenate([np.asarray(a0)[None], np.asarray(states)[: case.timeline.used]])[:, good]
    flat = visited.reshape(-1, reduced.size)
    flat = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-300)
    values, directions = np.linalg.eigh(flat.T @ flat)
    inner = directions[:, np.argsort(values)[::-1][: min(rank, reduced.rank)]]
    exposure = None if case.exposure is None else case.exposure[reduced.rows]
    vectors, omega = rotate_to_exposure(reduced.moving @ inner, exposure)
    wide = np.zeros((len(reduced.rows), padded(vectors.shape[1])))
    wide[:, : vectors.shape[1]] = vectors
    fitted = None
    if reduced.saturation != 1.0:
        states = flat @ (reduced.moving.T @ vectors)
        fitted = fitted_loss(vectors, states, POINTS * vectors.shape[1], 0, reduced.saturation)
    return replace(
        reduced, rank=vectors.shape[1], vectors=wide,
        operators=project(vectors, case.faces.sparse_terms(), reduced.rows, omega, fitted),
        singular_values=np.sqrt(np.maximum(np.sort(values)[::-1], 0.0)), errors={},
    )  # fmt: skip


def distance(small: ReducedGrowth, large: ReducedGrowth, case: GrowthCase, theta: np.ndarray) -> np.ndarray:
    """Relative L2 distance of two reduced models' fields at the worst visit, shape (N,).

    Both must live on the same voxels (one made from the other by :func:`restrict`).
    """
    a, _ = small.run(case, theta)
    b, _ = large.run(case, theta)
    lifted = a @ (small.moving.T @ large.moving)
    # the smaller space lies inside the larger, so norms of coefficients are norms of fields
    return np.asarray((np.linalg.norm(lifted - b, axis=2) / np.linalg.norm(b, axis=2)).max(axis=1))
