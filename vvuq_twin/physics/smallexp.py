"""Matrix exponentials of many small matrices, one per voxel, compiled.

Scaling and squaring with a Taylor polynomial (Moler & Van Loan 2003): scaled to a norm of at most 1/4
the degree-14 polynomial's truncation error is 0.25^15 / 15! < 1e-21, below round-off.
"""

from __future__ import annotations

import math

import numpy as np

from .rowmath import Array, compiled

_DEGREE = 14


@compiled
def _product(a: Array, b: Array, out: Array) -> None:
    """``out = a @ b`` for small square matrices."""
    n = a.shape[0]
    for i in range(n):
        for j in range(n):
            total = 0.0
            for k in range(n):
                total += a[i, k] * b[k, j]
            out[i, j] = total


@compiled
def small_expm(matrix: Array, out: Array, power: Array, scratch: Array) -> None:
    """``out = expm(matrix)``; ``power`` and ``scratch`` are work arrays of the same shape."""
    n = matrix.shape[0]
    norm = 0.0
    for j in range(n):
        column = 0.0
        for i in range(n):
            column += abs(matrix[i, j])
        norm = max(norm, column)
    halvings = 0 if norm <= 0.25 else math.ceil(math.log2(norm / 0.25))
    scale = 0.5**halvings
    for i in range(n):
        for j in range(n):
            out[i, j] = 1.0 if i == j else 0.0
            power[i, j] = out[i, j]
    for degree in range(1, _DEGREE + 1):
        _product(power, matrix, scratch)
        for i in range(n):
            for j in range(n):
                power[i, j] = scratch[i, j] * scale / degree
                out[i, j] += power[i, j]
    for _ in range(halvings):
        _product(out, out, scratch)
        for i in range(n):
            for j in range(n):
                out[i, j] = scratch[i, j]


@compiled
def local_maps(
    kep: Array, ktrans: Array, reactions: Array, plasma: Array, input_row: Array, dt: float, out: Array
) -> None:
    """Exact propagators of the local kinetics of every voxel, coupled to the plasma.

    The local state is (species, their time integrals, plasma states): ``dC/dt = R C - kep C_0 +
    ktrans c_p``, ``c_p = input_row . p``, ``dp/dt = plasma p``.

    Parameters
    ----------
    kep, ktrans : ndarray, shape (n,)
    reactions : ndarray, shape (s, s)
    plasma : ndarray, shape (p, p)
    input_row : ndarray, shape (p,)
    dt : float
    out : ndarray, shape (n, 2 s, s + p)
        Filled with: new species, then the increments of their integrals, from (species, plasma).
    """
    s, p = reactions.shape[0], plasma.shape[0]
    size = 2 * s + p
    matrix = np.zeros((size, size))
    result, power, scratch = np.empty_like(matrix), np.empty_like(matrix), np.empty_like(matrix)
    for v in range(kep.size):
        matrix[:] = 0.0
        for i in range(s):
            for j in range(s):
                matrix[i, j] = reactions[i, j] * dt
            matrix[s + i, i] = dt
        matrix[0, 0] -= kep[v] * dt
        for j in range(p):
            matrix[0, 2 * s + j] = ktrans[v] * input_row[j] * dt
            for i in range(p):
                matrix[2 * s + i, 2 * s + j] = plasma[i, j] * dt
        small_expm(matrix, result, power, scratch)
        for i in range(2 * s):
            for j in range(s):
                out[v, i, j] = result[i, j]
            for j in range(p):
                out[v, i, s + j] = result[i, 2 * s + j]


@compiled
def apply_maps(maps: Array, plasma: Array, species: Array, integrals: Array) -> None:
    """Advance ``species`` (n, s) and ``integrals`` (n, s) in place with :func:`local_maps`."""
    n, s = species.shape
    p = plasma.size
    old = np.empty(s)
    for v in range(n):
        for j in range(s):
            old[j] = species[v, j]
        for i in range(s):
            new, gain = 0.0, 0.0
            for j in range(s):
                new += maps[v, i, j] * old[j]
                gain += maps[v, s + i, j] * old[j]
            for j in range(p):
                new += maps[v, i, s + j] * plasma[j]
                gain += maps[v, s + i, s + j] * plasma[j]
            species[v, i] = new
            integrals[v, i] += gain
