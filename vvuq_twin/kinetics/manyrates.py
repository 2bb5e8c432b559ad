"""Least squares of curves on up to two fixed columns and two exponentials, with the bolus' delay if asked.

Non-negative amplitudes for every pair of rates on a grid and every trial delay (each a problem of at most three
columns in closed form), then Levenberg-Marquardt on amplitudes, log rates and delay together, with the exact
forward model and its exact derivatives. Slower than :mod:`onerate` by two orders, and more general.
"""

from __future__ import annotations

import numba
import numpy as np

from .convolution import convolve, integrate
from .small import non_negative, solve_small

#: Trial delays a voxel's fit is started from, and Levenberg-Marquardt steps of each.
_STARTS, _STEPS = 3, 60


@numba.njit(cache=True)
def _fixed_column(
    edges: np.ndarray, frames: bool, rate: np.ndarray, curve: np.ndarray, integral: np.ndarray, value: np.ndarray,
    late: np.ndarray,
) -> None:  # fmt: skip
    """A curve at the samples or averaged over the frames (value), and its derivative with respect to the delay (late)."""
    for j in range(value.shape[0]):
        if frames:
            w = edges[2 * j + 1] - edges[2 * j]
            value[j] = (integral[2 * j + 1] - integral[2 * j]) / w
            late[j] = -(curve[2 * j + 1] - curve[2 * j]) / w
        else:
            value[j], late[j] = curve[j], -rate[j]


@numba.njit(cache=True)
def _columns(
    ta: np.ndarray, ca: np.ndarray, blood: np.ndarray, edges: np.ndarray, frames: bool, has_blood: bool, stays: bool,
    log_rates: np.ndarray, delay: float, F: np.ndarray, work: np.ndarray, value: np.ndarray, slope: np.ndarray,
    late: np.ndarray,
) -> None:  # fmt: skip
    """All columns (value), their derivatives with respect to the own log rate (slope) and to the delay (late)."""
    nodes = edges.shape[0]
    T = nodes // 2 if frames else nodes
    at = edges - delay
    c, g, one, two = F[0], F[1], F[2], F[3]
    m = 0
    if has_blood:
        integrate(ta, blood, at, c, g, one, two)
        _fixed_column(edges, frames, g, c, one, value[m], late[m])
        slope[m] = 0.0
        m += 1
    integrate(ta, ca, at, c, g, one, two)
    if stays:
        _fixed_column(edges, frames, c, one, two, value[m], late[m])
        slope[m] = 0.0
        m += 1
    e, d, q = work[0], work[1], work[2]
    for i in range(log_rates.shape[0]):
        k = np.exp(log_rates[i])
        convolve(ta, ca, k, at, e, d, q)
        for j in range(T):
            if frames:
                a, b = 2 * j, 2 * j + 1
                w = edges[b] - edges[a]
                mean = (one[b] - one[a] - (e[b] - e[a])) / (k * w)
                value[m, j] = mean
                slope[m, j] = -mean - (d[b] - d[a]) / w
                late[m, j] = -(e[b] - e[a]) / w
            else:
                value[m, j], slope[m, j] = e[j], k * d[j]
                late[m, j] = -(c[j] - k * e[j])
        m += 1


@numba.njit(cache=True)
def _grid(
    y: np.ndarray, m: np.ndarray, fixed: int, rates: int, table: np.ndarray, x: np.ndarray, gram: np.ndarray,
    whole: bool, start: np.ndarray,
) -> float:  # fmt: skip
    """Best amplitudes and log rates on the grid into ``start``; the gain. ``table`` (fixed + K, T)."""
    S, T = table.shape
    K = S - fixed
    b = np.zeros(S)
    for s in range(S):
        for t in range(T):
            b[s] += y[t] * table[s, t]
    if not whole:
        gram = np.zeros((S, S))
        for s in range(S):
            for q in range(s + 1):
                v = 0.0
                for t in range(T):
                    v += m[t] * table[s, t] * table[q, t]
                gram[s, q] = gram[q, s] = v
    n = fixed + rates
    A, r, amplitude, work = np.zeros((4, 4)), np.zeros(4), np.zeros(4), np.zeros((6, 4))
    rows = np.zeros(4, np.int64)
    for f in range(fixed):
        rows[f] = f
    best = -1.0
    for k in range(K if rates > 0 else 1):
        for l in range(k + 1 if rates == 2 else 0, K if rates == 2 else 1):
            if rates > 0:
                rows[fixed] = fixed + k
            if rates == 2:
                rows[fixed + 1] = fixed + l
            for i in range(n):
                r[i] = b[rows[i]]
                for j in range(n):
                    A[i, j] = gram[rows[i], rows[j]]
            gain = non_negative(A, r, n, amplitude, work)
            if gain > best:
                best = gain
                start[:n] = amplitude[:n]
                if rates > 0:
                    start[n] = x[k]
                if rates == 2:
                    start[n + 1] = x[l]
    return best


@numba.njit(cache=True)
def _model(
    theta: np.ndarray, fixed: int, rates: int, delayed: bool, value: np.ndarray, slope: np.ndarray, late: np.ndarray,
    J: np.ndarray, f: np.ndarray,
) -> None:  # fmt: skip
    n = fixed + rates
    for t in range(f.shape[0]):
        f[t] = 0.0
        if delayed:
            J[n + rates, t] = 0.0
        for i in range(n):
            f[t] += theta[i] * value[i, t]
            J[i, t] = value[i, t]
            if i >= fixed:
                J[n + i - fixed, t] = theta[i] * slope[i, t]
            if delayed:
                J[n + rates, t] += theta[i] * late[i, t]


@numba.njit(cache=True)
def _descend(
    y: np.ndarray, m: np.ndarray, ta: np.ndarray, ca: np.ndarray, blood: np.ndarray, edges: np.ndarray, frames: bool,
    has_blood: bool, stays: bool, rates: int, delayed: bool, theta: np.ndarray, low: np.ndarray, high: np.ndarray,
    steps: int, H: np.ndarray,
) -> float:  # fmt: skip
    """Levenberg-Marquardt within bounds from ``theta``, in place; the residual sum and J^T J in H."""
    T = y.shape[0]
    fixed = int(has_blood) + int(stays)
    n = fixed + rates
    p = n + rates + int(delayed)
    nodes = edges.shape[0]
    F, work = np.zeros((4, nodes)), np.zeros((3, nodes))
    value, slope, late = np.zeros((n, T)), np.zeros((n, T)), np.zeros((n, T))
    J, f, Jn, fn = np.zeros((p, T)), np.zeros(T), np.zeros((p, T)), np.zeros(T)
    g, step, trial, A = np.zeros(6), np.zeros(6), np.zeros(6), np.zeros((6, 6))
    rows = np.zeros(6, np.int64)

    shift = theta[p - 1] if delayed else 0.0
    _columns(
        ta, ca, blood, edges, frames, has_blood, stays, theta[n : n + rates], shift, F, work, value, slope, late
    )  # fmt: skip
    _model(theta, fixed, rates, delayed, value, slope, late, J, f)
    rss = 0.0
    for t in range(T):
        rss += m[t] * (y[t] - f[t]) ** 2
    damping = 1e-3
    for _ in range(steps):
        for i in range(p):
            g[i] = 0.0
            for t in range(T):
                g[i] += m[t] * J[i, t] * (y[t] - f[t])
            for j in range(i + 1):
                v = 0.0
                for t in range(T):
                    v += m[t] * J[i, t] * J[j, t]
                H[i, j] = H[j, i] = v
        # parameters that stand at a bound and are pushed outwards stay there
        count = 0
        for i in range(p):
            if (
                (theta[i] <= low[i] and g[i] <= 0.0)
                or (theta[i] >= high[i] and g[i] >= 0.0)
                or H[i, i] <= 0.0
            ):
                continue
            rows[count] = i
            count += 1
        if count == 0:
            break
        small = False
        better = False
        for _try in range(12):
            for i in range(count):
                step[i] = g[rows[i]]
                for j in range(count):
                    A[i, j] = H[rows[i], rows[j]]
                A[i, i] *= 1.0 + damping
            x = np.zeros(6)
            if not solve_small(A, step, count, x):
                damping = max(damping * 10.0, 1e-9)
                continue
            for i in range(p):
                trial[i] = theta[i]
            small = True
            for i in range(count):
                j = rows[i]
                move = x[i]
                if j >= n and j < n + rates:
                    move = min(max(move, -1.0), 1.0)
                trial[j] = min(max(theta[j] + move, low[j]), high[j])
                size = abs(theta[j]) if j < n else 1.0
                if abs(trial[j] - theta[j]) > 1e-11 * size + 1e-15:
                    small = False
            if small:
                break
            _columns(
                ta, ca, blood, edges, frames, has_blood, stays, trial[n : n + rates],
                trial[p - 1] if delayed else 0.0, F, work, value, slope, late,
            )  # fmt: skip
            _model(trial, fixed, rates, delayed, value, slope, late, Jn, fn)
            new = 0.0
            for t in range(T):
                new += m[t] * (y[t] - fn[t]) ** 2
            if new < rss:
                better = True
                break
            damping = max(damping * 8.0, 1e-12)
        if small or not better:
            break
        damping *= 0.1
        rss = new
        for i in range(p):
            theta[i] = trial[i]
            for t in range(T):
                J[i, t] = Jn[i, t]
        for t in range(T):
            f[t] = fn[t]
    for i in range(p):
        for j in range(p):
            v = 0.0
            for t in range(T):
                v += m[t] * J[i, t] * J[j, t]
            H[i, j] = v
    return rss


@numba.njit(cache=True)
def _fit(
    y: np.ndarray, m: np.ndarray, whole: np.ndarray, ta: np.ndarray, ca: np.ndarray, blood: np.ndarray,
    edges: np.ndarray, frames: bool, has_blood: bool, stays: bool, rates: int, delays: np.ndarray, delayed: bool,
    table: np.ndarray, x: np.ndarray, low: np.ndarray, high: np.ndarray, starts: int, steps: int, out: np.ndarray,
    rss: np.ndarray, info: np.ndarray,
) -> None:  # fmt: skip
    D = delays.shape[0]
    fixed = int(has_blood) + int(stays)
    n = fixed + rates
    p = n + rates + int(delayed)
    S = table.shape[1]
    grams = np.zeros((D, S, S))
    for d in range(D):
        grams[d] = table[d] @ table[d].T
    gains, begun = np.zeros(D), np.zeros((D, 6))
    H, theta = np.zeros((6, 6)), np.zeros(6)
    for v in range(y.shape[0]):
        for d in range(D):
            begun[d] = 0.0
            gains[d] = _grid(y[v], m[v], fixed, rates, table[d], x, grams[d], whole[v], begun[d])
            if delayed:
                begun[d, p - 1] = delays[d]
        order = np.argsort(-gains)
        rss[v] = np.inf
        for s in range(min(starts, D)):
            theta[:] = begun[order[s]]
            found = _descend(
                y[v], m[v], ta, ca, blood, edges, frames, has_blood, stays, rates, delayed, theta, low, high, steps, H
            )  # fmt: skip
            if found < rss[v]:
                rss[v] = found
                out[v] = theta
                info[v] = H


def fit_many_rates(
    curves: np.ndarray,
    ta: np.ndarray,
    ca: np.ndarray,
    blood: np.ndarray,
    edges: np.ndarray,
    has_blood: bool,
    stays: bool,
    rates: int,
    log_rates: np.ndarray,
    delays: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fit each curve.

    Parameters
    ----------
    curves : ndarray, shape (n, T)
        NaN marks a missing sample.
    ta, ca, blood : ndarray, shape (A,)
        Times, plasma and whole blood.
    edges : ndarray, shape (T,) or (T, 2)
        Sample times, or frames.
    has_blood, stays : bool
        Which fixed columns there are.
    rates : int
        0, 1 or 2 exponentials.
    log_rates : ndarray, shape (K,)
        The grid; its ends are bounds.
    delays : ndarray, shape (D,), optional
        Trial delays; their ends are bounds. Without them there is no delay.

    Returns
    -------
    theta : ndarray, shape (n, p)
        Amplitudes, log rates, and the delay if asked.
    rss : ndarray, shape (n,)
    information : ndarray, shape (n, p, p)
    edge : ndarray of bool, shape (n, p)
        Parameters that stand at a bound.
    """
    fixed, delayed = int(has_blood) + int(stays), delays is not None
    n = fixed + rates
    p = n + rates + int(delayed)
    tried = np.zeros(1) if delays is None else np.asarray(delays, dtype=float)
    flat = np.ascontiguousarray(edges.ravel())
    T, nodes = len(edges), len(flat)
    table = np.zeros((len(tried), fixed + (len(log_rates) if rates else 0), T))
    for d, shift in enumerate(tried):
        parts = (
            np.zeros((4, nodes)),
            np.zeros((3, nodes)),
            table[d],
            np.zeros_like(table[d]),
            np.zeros_like(table[d]),
        )
        _columns(
            ta, ca, blood, flat, edges.ndim == 2, has_blood, stays, log_rates if rates else np.zeros(0), shift, *parts
        )  # fmt: skip
    low, high = np.zeros(6), np.full(6, np.inf)
    low[n : n + rates], high[n : n + rates] = log_rates[0], log_rates[-1]
    if delayed:
        low[p - 1], high[p - 1] = tried.min(), tried.max()
    y = np.array(curves, dtype=float)
    m = np.isfinite(y)
    y[~m] = 0.0
    theta, rss, info = np.zeros((len(y), 6)), np.zeros(len(y)), np.zeros((len(y), 6, 6))
    _fit(
        y, m.astype(float), m.all(axis=1), ta, ca, blood, flat, edges.ndim == 2, has_blood, stays, rates, tried,
        delayed, table, log_rates, low, high, _STARTS, _STEPS, theta, rss, info,
    )  # fmt: skip
    theta, low, high = theta[:, :p], low[:p], high[:p]
    edge = (theta <= low + 1e-9 * np.abs(low)) | (theta >= high * (1.0 - 1e-9 * np.sign(high)))
    return theta, rss, info[:, :p, :p], edge
