"""Compiled loops of the serial filters."""

from __future__ import annotations

import math

import numba as nb
import numpy as np

#: Cells into which each tail of the rank histogram's prior is cut, and how far it reaches, in deviations.
TAIL, FAR = 48, 8.0
_ROOT_2 = math.sqrt(2.0)


@nb.njit(cache=True)
def _square_root(h: np.ndarray, y: float, sd: float, out: np.ndarray) -> None:
    """Increments of the Gaussian square root: the mean by the gain, the anomalies shrunk."""
    k = len(h)
    mean = h.mean()
    variance = 0.0
    for i in range(k):
        variance += (h[i] - mean) ** 2
    variance /= k - 1
    gain = variance / (variance + sd * sd)
    shrink = sd / math.sqrt(variance + sd * sd) - 1.0
    for i in range(k):
        out[i] = gain * (y - mean) + shrink * (h[i] - mean)


@nb.njit(cache=True)
def _log_likelihood(x: float, y: float, sd: float, low: float, high: float) -> float:
    """Of a reading y, or of one that is only known to lie in low..high, given the prediction x."""
    if not math.isnan(y):
        return -0.5 * ((y - x) / sd) ** 2
    a, b = (low - x) / sd, (high - x) / sd
    if a > 0:  # the tail where differences keep their digits
        a, b = -b, -a
    p = 0.5 * (math.erfc(-b / _ROOT_2) - math.erfc(-a / _ROOT_2))
    if p > 1e-300:
        return math.log(p)
    near = b if b < 0 else a
    return -0.5 * near * near - 690.0


@nb.njit(cache=True)
def _rank_histogram(h: np.ndarray, y: float, sd: float, low: float, high: float, out: np.ndarray) -> None:
    """Increments of the rank-histogram filter: each member keeps its rank in the posterior.

    The prior has mass 1/(K + 1) between neighbouring members, uniform there, and beyond the outermost ones
    tails of a normal with the ensemble's deviation; cells of the tails and gaps are weighted by the
    likelihood, linear over each; members become the quantiles i/(K + 1).
    """
    k = len(h)
    order = np.argsort(h)
    deviation = h.std() * math.sqrt(k / (k - 1.0))
    cells = 2 * TAIL + k - 1
    edge = np.empty(cells + 1)
    prior = np.empty(cells)
    # a tail beyond its quantile q = 1/(K + 1), in deviations from there outwards
    q = 1.0 / (k + 1.0)
    z0 = _normal_quantile(q)
    reach = FAR + z0 if FAR + z0 > 1.0 else 1.0
    for i in range(TAIL):
        outer, inner = z0 - reach * (TAIL - i) / TAIL, z0 - reach * (TAIL - i - 1) / TAIL
        mass = 0.5 * (math.erfc(-inner / _ROOT_2) - math.erfc(-outer / _ROOT_2))
        edge[i] = h[order[0]] + (outer - z0) * deviation
        prior[i] = mass
        edge[cells - i] = h[order[k - 1]] - (outer - z0) * deviation
        prior[cells - 1 - i] = mass
    for i in range(k):
        edge[TAIL + i] = h[order[i]]
        if i < k - 1:
            prior[TAIL + i] = q
    log = np.empty(cells + 1)
    top = -np.inf
    for i in range(cells + 1):
        log[i] = _log_likelihood(edge[i], y, sd, low, high)
        top = max(top, log[i])
    total = 0.0
    for i in range(cells):
        prior[i] *= 0.5 * (math.exp(log[i] - top) + math.exp(log[i + 1] - top))
        total += prior[i]
    cell, below = 0, 0.0
    for i in range(k):
        wanted = total * (i + 1) * q
        while cell < cells - 1 and below + prior[cell] < wanted:
            below += prior[cell]
            cell += 1
        # the density is linear between the likelihoods at the cell's ends
        a, b = math.exp(log[cell] - top), math.exp(log[cell + 1] - top)
        part = (wanted - below) / prior[cell] if prior[cell] > 0 else 0.5
        part = min(max(part, 0.0), 1.0)
        if abs(b - a) > 1e-9 * (a + b):
            part = (math.sqrt(a * a + part * (b * b - a * a)) - a) / (b - a)
        out[order[i]] = edge[cell] + part * (edge[cell + 1] - edge[cell]) - h[order[i]]


@nb.njit(cache=True)
def _normal_quantile(p: float) -> float:
    """Quantile of the standard normal by bisection; p in (0, 1/2)."""
    a, b = -40.0, 0.0
    for _ in range(80):
        c = 0.5 * (a + b)
        if 0.5 * math.erfc(-c / _ROOT_2) < p:
            a = c
        else:
            b = c
    return 0.5 * (a + b)


@nb.njit(cache=True)
def _increments(
    h: np.ndarray,
    y: float,
    sd: float,
    low: float,
    high: float,
    ranks: bool,
    delta: np.ndarray,
    slope: np.ndarray,
) -> bool:
    """Increments of one observation and the slope that spreads them; False where the members agree."""
    mean = h.mean()
    square = 0.0
    for i in range(len(h)):
        slope[i] = h[i] - mean
        square += slope[i] ** 2
    if square <= 1e-28 * (mean * mean + 1e-270):
        delta[:] = 0.0
        slope[:] = 0.0
        return False
    for i in range(len(h)):
        slope[i] /= square
    if ranks:
        _rank_histogram(h, y, sd, low, high, delta)
    else:
        _square_root(h, y, sd, delta)
    return True


@nb.njit(cache=True)
def everywhere(
    H: np.ndarray, y: np.ndarray, sd: np.ndarray, low: np.ndarray, high: np.ndarray, ranks: bool
) -> np.ndarray:
    """All observations into one transform (K, K): H (m, K) is read as it was, and moved as far as it has come."""
    m, k = H.shape
    X = np.eye(k)
    delta, slope, row = np.empty(k), np.empty(k), np.empty(k)
    for o in range(m):
        h = X @ H[o]
        if _increments(h, y[o], sd[o], low[o], high[o], ranks, delta, slope):
            row[:] = slope @ X
            for i in range(k):
                for j in range(k):
                    X[i, j] += delta[i] * row[j]
    return X


@nb.njit(cache=True)
def nearby(
    H: np.ndarray, y: np.ndarray, sd: np.ndarray, low: np.ndarray, high: np.ndarray, ranks: bool,
    start: np.ndarray, index: np.ndarray, taper: np.ndarray, delta: np.ndarray, slope: np.ndarray,
) -> None:  # fmt: skip
    """Increments and slopes of all observations; predictions in reach are moved as the state will be."""
    for o in range(len(H)):
        if not _increments(H[o], y[o], sd[o], low[o], high[o], ranks, delta[o], slope[o]):
            continue
        for a in range(start[o], start[o + 1]):
            p = index[a]
            if p > o:
                by = taper[a] * (slope[o] @ H[p])
                for i in range(H.shape[1]):
                    H[p, i] += by * delta[o, i]


@nb.njit(cache=True)
def spread(
    E: np.ndarray,
    start: np.ndarray,
    index: np.ndarray,
    taper: np.ndarray,
    delta: np.ndarray,
    slope: np.ndarray,
) -> None:
    """Columns e of E (n, K) moved by their observations in order."""
    for j in range(len(E)):
        for a in range(start[j], start[j + 1]):
            o = index[a]
            by = taper[a] * (slope[o] @ E[j])
            for i in range(E.shape[1]):
                E[j, i] += by * delta[o, i]
