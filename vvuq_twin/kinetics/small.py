"""Symmetric systems and non-negative least squares of a handful of unknowns, for compiled loops over voxels."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def solve_small(A: np.ndarray, b: np.ndarray, n: int, x: np.ndarray) -> bool:
    """Cholesky solution of a symmetric n x n system (n <= 6); False if it is not positive definite."""
    L = np.zeros((6, 6))
    for i in range(n):
        for j in range(i + 1):
            s = A[i, j]
            for k in range(j):
                s -= L[i, k] * L[j, k]
            if i == j:
                if s <= 1e-14 * A[i, i] or A[i, i] <= 0.0:
                    return False
                L[i, i] = np.sqrt(s)
            else:
                L[i, j] = s / L[j, j]
    for i in range(n):
        s = b[i]
        for k in range(i):
            s -= L[i, k] * x[k]
        x[i] = s / L[i, i]
    for i in range(n - 1, -1, -1):
        s = x[i]
        for k in range(i + 1, n):
            s -= L[k, i] * x[k]
        x[i] = s / L[i, i]
    return True


@numba.njit(cache=True)
def non_negative(A: np.ndarray, b: np.ndarray, n: int, best: np.ndarray, work: np.ndarray) -> float:
    """Non-negative least squares of at most four columns by trying every subset; the gain in the sum of squares."""
    gain = 0.0
    best[:] = 0.0
    a, r, x, rows = work[:4], work[4], work[5], np.empty(4, np.int64)
    for subset in range((1 << n) - 1, 0, -1):
        count = 0
        for i in range(n):
            if subset >> i & 1:
                rows[count] = i
                count += 1
        for i in range(count):
            r[i] = b[rows[i]]
            for j in range(count):
                a[i, j] = A[rows[i], rows[j]]
        if not solve_small(a, r, count, x):
            continue
        g, inside = 0.0, True
        for i in range(count):
            inside = inside and x[i] >= 0.0
            g += x[i] * r[i]
        if inside and g > gain:
            gain = g
            best[:] = 0.0
            for i in range(count):
                best[rows[i]] = x[i]
            if subset == (1 << n) - 1:
                return gain  # the unconstrained optimum is feasible: nothing is better
    return gain
