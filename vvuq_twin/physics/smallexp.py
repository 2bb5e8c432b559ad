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
def small_phi(matrix: Array, exponential: Array, first: Array, second: Array, work: Array) -> None:
    """``exp(X)``, ``phi_1(X) = (exp(X) - 1)/X`` and ``phi_2(X) = (phi_1(X) - 1)/X``, by scaling and doubling.

    With off-diagonal entries that are not negative, all three have no negative entry. ``work`` is two
    matrices.
    """
    n = matrix.shape[0]
    norm = 0.0
    for j in range(n):
        column = 0.0
        for i in range(n):
            column += abs(matrix[i, j])
        norm = max(norm, column)
    halvings = 0 if norm <= 0.25 else math.ceil(math.log2(norm / 0.25))
    scale = 0.5**halvings
    x, tmp = work[0], work[1]
    for i in range(n):
        for j in range(n):
            x[i, j] = matrix[i, j] * scale
            second[i, j] = 0.0
    for degree in range(_DEGREE - 1, -1, -1):  # Horner: phi_2 = sum X^k / (k + 2)!, scaled by 2 below
        _product(x, second, tmp)
        for i in range(n):
            for j in range(n):
                second[i, j] = tmp[i, j] / (degree + 3.0)
            second[i, i] += 1.0
    for i in range(n):
        for j in range(n):
            second[i, j] *= 0.5
    _product(x, second, first)
    for i in range(n):
        first[i, i] += 1.0
    _product(x, first, exponential)
    for i in range(n):
        exponential[i, i] += 1.0
    for _ in range(halvings):
        _product(first, first, tmp)
        for i in range(n):
            for j in range(n):
                second[i, j] = 0.25 * (tmp[i, j] + 2.0 * second[i, j])
        _product(exponential, first, tmp)
        for i in range(n):
            for j in range(n):
                first[i, j] = 0.5 * (tmp[i, j] + first[i, j])
        _product(exponential, exponential, tmp)
        for i in range(n):
            for j in range(n):
                exponential[i, j] = tmp[i, j]


@compiled
def local_maps(
    out_rate: Array, gain: Array, tissue: Array, reactions: Array, plasma: Array, area: Array, rows: Array,
    dt: float, supplied: bool, maps: Array,
) -> None:  # fmt: skip
    """Exact propagators of linear local kinetics, coupled to the plasma.

    The local state is (species, their time integrals, plasma states, a constant):
    ``dC_i/dt = (R C)_i - out_i C_i + gain_i rows_i . p + supply_i``, ``dp/dt = plasma p``.

    What a species gains is computed from the integrals that the ledger counts, unless it is nearly nothing,
    so that the balance closes to round-off however stiff the kinetics are.

    Parameters
    ----------
    out_rate, gain : ndarray, shape (c, m)
        Of c kinds of voxel, for the m moving species (the first).
    tissue : ndarray of int, shape (c,)
        Which of the reaction matrices.
    reactions : ndarray, shape (L, s, s)
    plasma : ndarray, shape (p, p)
    area : ndarray, shape (p, p)
        Time integral of the plasma states over the step from the states at its start.
    rows : ndarray, shape (m, p)
    dt : float
    supplied : bool
        Whether there is a constant supply to the moving species; it takes m more columns.
    maps : ndarray, shape (c, 2 s, s + p (+ m))
        Filled with: new species, then the increments of their integrals, from (species, plasma, unit supply).
    """
    s, p, m = reactions.shape[1], plasma.shape[0], rows.shape[0]
    extra = m if supplied else 0
    size = 2 * s + p + extra
    matrix = np.zeros((size, size))
    result, power, scratch = np.empty_like(matrix), np.empty_like(matrix), np.empty_like(matrix)
    for v in range(out_rate.shape[0]):
        r = reactions[tissue[v]]
        matrix[:] = 0.0
        for i in range(s):
            for j in range(s):
                matrix[i, j] = r[i, j] * dt
            matrix[s + i, i] = dt
        for i in range(m):
            matrix[i, i] -= out_rate[v, i] * dt
            for j in range(p):
                matrix[i, 2 * s + j] = gain[v, i] * rows[i, j] * dt
            if supplied:
                matrix[i, 2 * s + p + i] = dt
        for j in range(p):
            for i in range(p):
                matrix[2 * s + i, 2 * s + j] = plasma[i, j] * dt
        small_expm(matrix, result, power, scratch)
        for i in range(s):
            for j in range(s + p + extra):
                col = j if j < s else s + j
                integral = result[s + i, col]
                maps[v, s + i, j] = integral
                start = 1.0 if j == i else 0.0
                total, gross = start, start
                for k in range(s):
                    term = matrix[i, k] / dt * result[s + k, col]
                    total += term
                    gross += abs(term)
                if i < m and s <= j < s + p:
                    for k in range(p):
                        term = gain[v, i] * rows[i, k] * area[k, j - s]
                        total += term
                        gross += abs(term)
                if j == s + p + i and i < m:
                    total += dt
                    gross += dt
                maps[v, i, j] = total if abs(total) > 1e-3 * gross else result[i, col]


@compiled
def apply_maps(
    maps: Array, kind: Array, plasma: Array, supply: Array, species: Array, integrals: Array
) -> None:
    """Advance ``species`` (n, s) and ``integrals`` (n, s) in place with :func:`local_maps`.

    ``kind`` (n,) says which map a voxel has, empty for one each; ``supply`` is (m, n) or (0, 0).
    """
    n, s = species.shape
    p = plasma.size
    m = supply.shape[0]
    if s == 1 and m == 0:  # most runs: without the loops over species half the time
        c, z = species[:, 0], integrals[:, 0]
        for v in range(n):
            f = maps[kind[v]] if kind.size > 0 else maps[v]
            new, more = f[0, 0] * c[v], f[1, 0] * c[v]
            for j in range(p):
                new += f[0, 1 + j] * plasma[j]
                more += f[1, 1 + j] * plasma[j]
            c[v] = new
            z[v] += more
        return
    old = np.empty(s + p + m)
    for j in range(p):
        old[s + j] = plasma[j]
    for v in range(n):
        f = maps[kind[v]] if kind.size > 0 else maps[v]
        for j in range(s):
            old[j] = species[v, j]
        for j in range(m):
            old[s + p + j] = supply[j, v]
        for i in range(s):
            new, more = 0.0, 0.0
            for j in range(s + p + m):
                new += f[i, j] * old[j]
                more += f[s + i, j] * old[j]
            species[v, i] = new
            integrals[v, i] += more


@compiled
def kinds(values: Array, table: Array, rows: Array, count: int, kind: Array) -> int:
    """Number the distinct rows of ``values`` (n, k), going on from ``count`` kinds already found.

    Parameters
    ----------
    values : ndarray, shape (n, k)
    table : ndarray of int64, shape (a power of two,)
        Hash table, -1 where free; kept between calls.
    rows : ndarray, shape (most, k)
        The distinct rows; kept between calls.
    count : int
        How many there are so far.
    kind : ndarray of int, shape (n,)
        Filled with the row of each.

    Returns
    -------
    int
        How many there are now, or -1 as soon as they are more than fit.
    """
    n, k = values.shape
    bits, known = values.view(np.int64), rows.view(np.int64)
    for v in range(n):
        h = np.int64(1469598103934665603)
        for j in range(k):
            h = (h ^ bits[v, j]) * np.int64(1099511628211)
            h = h ^ (h >> 29)
        at = h & (table.size - 1)
        while table[at] >= 0:
            same = True
            for j in range(k):
                if known[table[at], j] != bits[v, j]:
                    same = False
                    break
            if same:
                break
            at = (at + 1) & (table.size - 1)
        if table[at] < 0:
            if count == rows.shape[0]:
                return -1
            table[at] = count
            for j in range(k):
                rows[count, j] = values[v, j]
            count += 1
        kind[v] = table[at]
    return count
