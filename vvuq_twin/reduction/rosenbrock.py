"""A linearly implicit time step for stiff local kinetics with slow transport: ROS34PW2.

Rosenbrock-W methods keep their order with any matrix in the place of the Jacobian. Here that matrix is the
Jacobian of the local kinetics alone, s x s in every cell, so that a step costs one small elimination per
cell and transport stays explicit: no splitting error, and neither fast binding nor fast uptake limits the
step. ROS34PW2 (Rang & Angermann 2005, BIT 45:761) has four stages, order three (also for the slow manifold that
fast reactions leave, a system of differential-algebraic equations of index one), and is stiffly accurate and
L-stable. In the variables ``u = Gamma k`` no product with the Jacobian is needed (Hairer & Wanner 1996, IV.7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

GAMMA = 4.3586652150845900e-01
_ALPHA = np.array([
    [0.0, 0.0, 0.0, 0.0],
    [8.7173304301691801e-01, 0.0, 0.0, 0.0],
    [8.4457060015369423e-01, -1.1299064236484185e-01, 0.0, 0.0],
    [0.0, 0.0, 1.0, 0.0],
])  # fmt: skip
_GAMMA = np.array([
    [GAMMA, 0.0, 0.0, 0.0],
    [-8.7173304301691801e-01, GAMMA, 0.0, 0.0],
    [-9.0338057013044082e-01, 5.4180672388095326e-02, GAMMA, 0.0],
    [2.4212380706095346e-01, -1.2232505839045147e00, 5.4526025533510214e-01, GAMMA],
])  # fmt: skip
_B = np.array([2.4212380706095346e-01, -1.2232505839045147e00, 1.5452602553351020e00, GAMMA])
#: Times of the stages within a step, and what multiplies the time derivative there.
STAGES, _SLOPE = _ALPHA.sum(axis=1), _GAMMA.sum(axis=1)
_INVERSE = np.linalg.inv(_GAMMA)
_A, _C, _M = _ALPHA @ _INVERSE, np.diag(np.full(4, 1.0 / GAMMA)) - _INVERSE, _B @ _INVERSE

#: A matrix of arrays, one small system in every cell.
Small = Sequence[Sequence[Any]]


def factored(matrix: Small) -> list[list[Any]]:
    """LU factors of small matrices of arrays, without pivoting.

    ``I/(gamma h) - J`` of kinetics that make no substance has dominant columns: nothing need be exchanged.
    """
    lu = [list(row) for row in matrix]
    for k in range(len(lu)):
        for i in range(k + 1, len(lu)):
            lu[i][k] = lu[i][k] / lu[k][k]
            for j in range(k + 1, len(lu)):
                lu[i][j] = lu[i][j] - lu[i][k] * lu[k][j]
    return lu


def solved(lu: Small, right: Any) -> list[Any]:
    """Solutions for right-hand sides (s, ...) by the factors."""
    s = len(lu)
    x = [right[i] for i in range(s)]
    for i in range(s):
        for j in range(i):
            x[i] = x[i] - lu[i][j] * x[j]
    for i in reversed(range(s)):
        for j in range(i + 1, s):
            x[i] = x[i] - lu[i][j] * x[j]
        x[i] = x[i] / lu[i][i]
    return x


def step(
    state: Any,
    h: Any,
    rate: Callable[[Any, Any], Any],
    jacobian: Small,
    drift: Any,
    xp: Any = np,
    looped: bool = False,
) -> Any:
    """One step.

    Parameters
    ----------
    state : array, shape (s, ...)
    h : float or scalar array
        Hours.
    rate : callable
        ``rate(state, i)``: the whole right-hand side at the time of stage i.
    jacobian : s x s arrays
        Of the stiff part, at the start of the step.
    drift : array, shape (s, ...)
        Partial derivative of the right-hand side in time, at the start of the step.
    looped : bool
        The stages as a loop of the compiled program (JAX): half the time to compile, twice the time to run.

    Returns
    -------
    array, shape (s, ...)
    """
    s = len(jacobian)
    diagonal = 1.0 / (GAMMA * h)
    lu = factored([[(diagonal if i == j else 0.0) - jacobian[i][j] for j in range(s)] for i in range(s)])
    if looped:
        return _looped(state, h, rate, lu, drift, xp)
    found: list[Any] = []
    for i in range(4):
        at, right = state, _SLOPE[i] * h * drift
        for j, u in enumerate(found):
            if _A[i, j] != 0.0:
                at = at + _A[i, j] * u
            right = right + (_C[i, j] / h) * u
        found.append(xp.stack(solved(lu, rate(at, i) + right)))
    for m, u in zip(_M, found):
        state = state + m * u
    return state


def _looped(state: Any, h: Any, rate: Callable[[Any, Any], Any], lu: Small, drift: Any, xp: Any) -> Any:
    """The stages as a loop."""
    from .backend import jax

    def stage(found: Any, row: tuple[Any, ...]) -> tuple[Any, None]:
        i, a, c, slope = row
        at = state + xp.tensordot(a, found, 1)
        right = slope * h * drift + xp.tensordot(c, found, 1) / h
        return found.at[i].set(xp.stack(solved(lu, rate(at, i) + right))), None

    rows = (xp.arange(4), xp.asarray(_A), xp.asarray(np.tril(_C, -1)), xp.asarray(_SLOPE))
    found, _ = jax.lax.scan(stage, xp.zeros((4, *state.shape)), rows)
    return state + xp.tensordot(xp.asarray(_M), found, 1)
