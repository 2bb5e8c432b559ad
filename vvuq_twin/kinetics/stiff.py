"""Stiff kinetics of reaction networks, compiled: extrapolated linearly implicit Euler steps.

Deuflhard, Hairer & Zugck 1987, Numer. Math. 51:501; Hairer & Wanner, Solving Ordinary Differential Equations
II, IV.9 (SEULEX). A basic step ``(I - h J) (x+ - x) = h f(x)`` is repeated 1, 2, ..., ``COLUMNS`` times over one
large step and extrapolated to order ``COLUMNS``. Chosen because every linear invariant ``w . f = 0`` (an
amount of ligand, of receptor) is kept to round-off by each stage, whatever the step, and because the
stiffness of receptor binding does not bound the step.
"""

from __future__ import annotations

import numba
import numpy as np

Array = np.ndarray

#: Columns of the extrapolation table, the order of a step.
COLUMNS = 6
#: Steps after which a member is given up.
MOST_STEPS = 100_000

OK, NOT_FINITE, TOO_MANY_STEPS, BAD_PARAMETER = 0, 1, 2, 3


@numba.njit(cache=True)
def rates(
    x: Array, first: Array, second: Array, pool: Array, change: Array, rate: Array, half: Array, feed: Array,
    slope: Array, jacobian: Array, wanted: bool,
) -> None:  # fmt: skip
    """``slope = f(x)`` and, if wanted, ``jacobian = df/dx``.

    Parameters
    ----------
    x : ndarray, shape (m,)
    first, second : ndarray of int, shape (r,)
        Reactants of each reaction; ``second`` is -1 for a reaction of first order or a saturable one.
    pool : ndarray of int, shape (r, q)
        States whose sum saturates the reaction, padded with -1.
    change : ndarray, shape (r, m)
        What one unit of each reaction adds to the states.
    rate, half : ndarray, shape (r,)
        Rate constants; amount at half saturation, 0 for reactions that do not saturate.
    feed : ndarray, shape (m,)
        Constant inputs.
    """
    m = x.size
    for i in range(m):
        slope[i] = feed[i]
    if wanted:
        jacobian[:] = 0.0
    for r in range(rate.size):
        a, b = first[r], second[r]
        if half[r] > 0.0:
            crowd = half[r]
            for p in pool[r]:
                if p >= 0:
                    crowd += x[p]
            flux = rate[r] * x[a] / crowd
        elif b >= 0:
            flux = rate[r] * x[a] * x[b]
        else:
            flux = rate[r] * x[a]
        for i in range(m):
            d = change[r, i]
            if d != 0.0:
                slope[i] += d * flux
                if wanted:
                    if half[r] > 0.0:
                        jacobian[i, a] += d * rate[r] / crowd
                        for p in pool[r]:
                            if p >= 0:
                                jacobian[i, p] -= d * flux / crowd
                    elif b >= 0:
                        jacobian[i, a] += d * rate[r] * x[b]
                        jacobian[i, b] += d * rate[r] * x[a]
                    else:
                        jacobian[i, a] += d * rate[r]


@numba.njit(cache=True)
def _factor(a: Array, pivot: Array) -> None:
    """LU with partial pivoting, in place."""
    n = a.shape[0]
    for k in range(n):
        best = k
        for i in range(k + 1, n):
            if abs(a[i, k]) > abs(a[best, k]):
                best = i
        pivot[k] = best
        if best != k:
            for j in range(n):
                a[k, j], a[best, j] = a[best, j], a[k, j]
        for i in range(k + 1, n):
            if a[i, k] != 0.0:
                q = a[i, k] / a[k, k]
                a[i, k] = q
                for j in range(k + 1, n):
                    a[i, j] -= q * a[k, j]


@numba.njit(cache=True)
def _solve(a: Array, pivot: Array, b: Array) -> None:
    """Solve with the factors of :func:`_factor`, in place."""
    n = b.size
    for k in range(n):
        p = pivot[k]
        if p != k:
            b[k], b[p] = b[p], b[k]
    for i in range(n):
        total = b[i]
        for j in range(i):
            total -= a[i, j] * b[j]
        b[i] = total
    for i in range(n - 1, -1, -1):
        total = b[i]
        for j in range(i + 1, n):
            total -= a[i, j] * b[j]
        b[i] = total / a[i, i]


@numba.njit(cache=True)
def propagate(
    x: Array, area: Array, span: float, step: float, rtol: float, atol: float,
    first: Array, second: Array, pool: Array, change: Array, rate: Array, half: Array, feed: Array,
) -> tuple[float, int]:  # fmt: skip
    """Advance ``x`` and its time integral ``area`` by ``span``, in place.

    Returns
    -------
    step : float
        A step for the next call.
    status : int
    """
    m = x.size
    jacobian, matrix = np.zeros((m, m)), np.zeros((m, m))
    slope, pivot = np.zeros(m), np.zeros(m, np.int64)
    table, gain = np.zeros((COLUMNS, m)), np.zeros((COLUMNS, m))
    here, whole = np.zeros(m), np.zeros(m)
    row, row_area = np.zeros((COLUMNS, m)), np.zeros((COLUMNS, m))
    now, h = 0.0, min(step, span)
    for _ in range(MOST_STEPS):
        if span - now <= 1e-14 * span:
            return step, OK
        h = min(h, span - now)
        rates(x, first, second, pool, change, rate, half, feed, slope, jacobian, True)
        error = 0.0
        for j in range(COLUMNS):
            n = j + 1
            tau = h / n
            for a in range(m):
                for b in range(m):
                    matrix[a, b] = (1.0 if a == b else 0.0) - tau * jacobian[a, b]
            _factor(matrix, pivot)
            for i in range(m):
                here[i] = x[i]
                whole[i] = 0.0
            for _ in range(n):
                rates(here, first, second, pool, change, rate, half, feed, slope, jacobian, False)
                for i in range(m):
                    slope[i] *= tau
                _solve(matrix, pivot, slope)
                for i in range(m):
                    here[i] += slope[i]
                    whole[i] += tau * here[i]
            # Aitken-Neville along the row, harmonic sequence
            for i in range(m):
                row[0, i], row_area[0, i] = here[i], whole[i]
            for k in range(1, n):
                weight = 1.0 / (n / (n - k) - 1.0)
                for i in range(m):
                    row[k, i] = row[k - 1, i] + (row[k - 1, i] - table[k - 1, i]) * weight
                    row_area[k, i] = row_area[k - 1, i] + (row_area[k - 1, i] - gain[k - 1, i]) * weight
            for k in range(n):
                for i in range(m):
                    table[k, i], gain[k, i] = row[k, i], row_area[k, i]
        for i in range(m):
            scale = atol + rtol * max(abs(x[i]), abs(table[COLUMNS - 1, i]))
            own = abs(table[COLUMNS - 1, i] - table[COLUMNS - 2, i]) / scale
            if not own <= error:  # a NaN too, which max() would pass over
                error = own
            if not np.isfinite(error):
                break
        if not np.isfinite(error):
            if h < 1e-12 * span:
                return step, NOT_FINITE
            h *= 0.1
            continue
        factor = 0.9 * (1.0 / max(error, 1e-12)) ** (1.0 / COLUMNS)
        if error <= 1.0:
            for i in range(m):
                x[i] = table[COLUMNS - 1, i]
                area[i] += gain[COLUMNS - 1, i]
            now += h
            if h < span - now or step < h:
                step = h * min(4.0, max(0.2, factor))
            h *= min(4.0, max(0.2, factor))
        else:
            h *= min(0.7, max(0.1, factor))
    return step, TOO_MANY_STEPS
