"""Compiled local analyses: the transform of a tile applied to its few columns, and never formed.

A spectrum is most of the work of a small transform, and its eigenvectors are most of the spectrum. A tile of few
columns needs neither: a function of a symmetric matrix acts on a vector through the tridiagonal matrix that
Householder reflections make of it, and the square root's through shifted solves of that.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

#: Step of the quadrature: the trapezoid rule's error is ``exp(-pi^2 / STEP)``, below a double's digits.
STEP = 0.26
_NODES = np.arange(128) * STEP
_COSH = np.cosh(_NODES)
#: ``(1 - (1 + t)^(-1/2)) / t = 2/pi int_0^inf dv / (cosh v (cosh^2 v + t))``: the shifts and weights of its nodes.
#: The first node's shift is one, so that its solve gives the mean's weights as well.
SHIFTS = _COSH**2
WEIGHTS = 2.0 / math.pi * STEP / _COSH * np.where(_NODES == 0.0, 0.5, 1.0)

_FAST = {"reassoc", "contract"}


@nb.njit(cache=True, fastmath=_FAST)
def _tridiagonal(
    a: np.ndarray, diagonal: np.ndarray, off: np.ndarray, tau: np.ndarray, w: np.ndarray
) -> None:
    """``a = Q T Q^T``: reflections from the last row up (Golub & Van Loan 2013, algorithm 8.3.1).

    The lower triangle of ``a`` (n, n) is used; its row i is left with the vector of reflection i, and tau with the
    factor: ``H_i = I - tau_i v_i v_i^T`` acts on the first i coordinates, ``Q = H_{n-1} ... H_1``.
    """
    n = len(a)
    for i in range(n - 1, 0, -1):
        v = a[i, :i]
        diagonal[i] = a[i, i]
        last, rest = v[i - 1], 0.0
        for j in range(i - 1):
            rest += v[j] * v[j]
        if rest == 0.0:
            off[i], tau[i] = last, 0.0
            continue
        beta = -math.copysign(math.sqrt(last * last + rest), last)
        factor = (beta - last) / beta
        for j in range(i - 1):
            v[j] /= last - beta
        v[i - 1] = 1.0
        off[i], tau[i] = beta, factor
        for r in range(i):
            row, own, total = a[r], v[r], 0.0
            for j in range(r):
                total += row[j] * v[j]
                w[j] += own * row[j]
            w[r] = total + row[r] * own
        along = 0.0
        for j in range(i):
            w[j] *= factor
            along += w[j] * v[j]
        along *= 0.5 * factor
        for j in range(i):
            w[j] -= along * v[j]
        for r in range(i):
            row, own, other = a[r], v[r], w[r]
            for j in range(r + 1):
                row[j] -= own * w[j] + other * v[j]
    diagonal[0], off[0] = a[0, 0], 0.0


@nb.njit(cache=True, fastmath=_FAST)
def _reflect(a: np.ndarray, tau: np.ndarray, b: np.ndarray, back: bool) -> None:
    """``b <- Q^T b``, or ``Q b`` on the way back."""
    n = len(b)
    for step in range(1, n):
        i = step if back else n - step
        if tau[i] == 0.0:
            continue
        v, total = a[i], 0.0
        for j in range(i):
            total += v[j] * b[j]
        total *= tau[i]
        for j in range(i):
            b[j] -= total * v[j]


@nb.njit(cache=True, fastmath=_FAST)
def _factor(
    diagonal: np.ndarray, off: np.ndarray, shifts: np.ndarray, ratio: np.ndarray, pivot: np.ndarray
) -> None:
    """``T + shift = L D L^T`` for all shifts: ratios below L's diagonal, and 1/D, each (n, shifts)."""
    n, count = len(diagonal), len(shifts)
    for s in range(count):
        ratio[0, s], pivot[0, s] = 0.0, 1.0 / (diagonal[0] + shifts[s])
    for i in range(1, n):
        for s in range(count):
            ratio[i, s] = off[i] * pivot[i - 1, s]
            pivot[i, s] = 1.0 / (diagonal[i] + shifts[s] - off[i] * ratio[i, s])


@nb.njit(cache=True, fastmath=_FAST)
def _solve(b: np.ndarray, ratio: np.ndarray, pivot: np.ndarray, weights: np.ndarray, x: np.ndarray) -> None:
    """``b <- sum_s weights_s (T + shift_s)^-1 b``; x is room for (n, shifts)."""
    n, count = len(b), len(weights)
    for s in range(count):
        x[0, s] = b[0]
    for i in range(1, n):
        for s in range(count):
            x[i, s] = b[i] - ratio[i, s] * x[i - 1, s]
    total = 0.0
    for s in range(count):
        x[n - 1, s] *= pivot[n - 1, s]
        total += weights[s] * x[n - 1, s]
    b[n - 1] = total
    for i in range(n - 2, -1, -1):
        total = 0.0
        for s in range(count):
            x[i, s] = pivot[i, s] * x[i, s] - ratio[i + 1, s] * x[i + 1, s]
            total += weights[s] * x[i, s]
        b[i] = total


@nb.njit(cache=True, fastmath=_FAST)
def apply_transforms(
    y: np.ndarray,
    d: np.ndarray,
    index: np.ndarray,
    taper: np.ndarray,
    prior: np.ndarray,
    starts: np.ndarray,
    columns: np.ndarray,
) -> None:
    """The square-root transform of each tile, ``1 w^T + (I + S S^T)^(-1/2)``, applied to its columns in place.

    Parameters
    ----------
    y : ndarray, shape (M, K)
        Whitened anomalies over sqrt(K - 1) of all observations.
    d : ndarray, shape (M,)
        Whitened innovations.
    index : ndarray of int, shape (B, m)
        A tile's observations; a row of zeros stands for none.
    taper : ndarray, shape (B, m)
    prior : ndarray, shape (B,)
        Factors on the anomalies, of predictions and columns alike.
    starts : ndarray of int, shape (B + 1,)
        Where the columns of each tile begin.
    columns : ndarray, shape (C, K)
        Members of each column; afterwards the analysis.

    Notes
    -----
    With G the smaller of ``S S^T`` and ``S^T S`` and ``G = Q T Q^T``, the root takes from the anomalies a
    ``Q T c(T) Q^T a`` or ``S Q c(T) Q^T S^T a``, c the function above; the mean moves by
    ``(Q^T z)^T (I + T)^-1 Q^T b / sqrt(K - 1)`` with (z, b) = (S d, a) or (d, S^T a). The last node needed, the
    one from which on ``8/3 exp(-3 v) (1 + trace G)`` is below a double's digits, is the tile's own.
    Cost: m K min(m, K) + 2/3 min(m, K)^3 multiplications a tile, 2 min(m, K)^2 more a column.
    """
    m, k = index.shape[1], y.shape[1]
    thin = m < k
    n = m if thin else k
    S, gram = np.empty((m, k)), np.empty((n, n))
    innovation = np.empty(m)
    diagonal, off, tau, w = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    most = len(SHIFTS)
    ratio, pivot, x = np.empty((n, most)), np.empty((n, most)), np.empty((n, most))
    b, z, anomalies = np.empty(n), np.empty(n), np.empty(k)
    for t in range(len(index)):
        if starts[t] == starts[t + 1]:
            continue
        for i in range(m):
            source, root = index[t, i], math.sqrt(taper[t, i])
            innovation[i] = d[source] * root
            by = root * prior[t]
            for j in range(k):
                S[i, j] = y[source, j] * by
        if thin:
            np.dot(S, S.T, gram)
            z[:] = innovation
        else:
            np.dot(S.T, S, gram)
            z[:] = np.dot(innovation, S)
        trace = 0.0
        for i in range(n):
            trace += gram[i, i]
        count = min(most, 8 * (1 + int((38.0 + math.log(1.0 + trace)) / (3.0 * 8 * STEP))))
        _tridiagonal(gram, diagonal, off, tau, w)
        _factor(diagonal, off, SHIFTS[:count], ratio[:, :count], pivot[:, :count])
        # the mean's weights, in the directions of T: the first shift alone
        _reflect(gram, tau, z, False)
        _solve(z, ratio[:, :1], pivot[:, :1], np.ones(1), x[:, :1])
        for c in range(starts[t], starts[t + 1]):
            column, mean = columns[c], 0.0
            for j in range(k):
                mean += column[j]
            mean /= k
            for j in range(k):
                anomalies[j] = prior[t] * (column[j] - mean)
            b[:] = np.dot(S, anomalies) if thin else anomalies
            _reflect(gram, tau, b, False)
            moved = 0.0
            for j in range(n):
                moved += z[j] * b[j]
            mean += moved / math.sqrt(k - 1.0)
            _solve(b, ratio[:, :count], pivot[:, :count], WEIGHTS[:count], x[:, :count])
            if not thin:
                before = 0.0
                for j in range(n):
                    own = b[j]
                    along = off[j] * before + diagonal[j] * own
                    if j + 1 < n:
                        along += off[j + 1] * b[j + 1]
                    before, b[j] = own, along
            _reflect(gram, tau, b, True)
            if thin:
                column[:] = mean + anomalies - np.dot(b, S)
            else:
                column[:] = mean + anomalies - b
