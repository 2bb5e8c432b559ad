"""Least squares of many curves on one fixed column and one exponential, at a few microseconds a voxel.

For a given rate the problem is linear in two non-negative amplitudes (variable projection, Golub & Pereyra 1973,
SIAM J Numer Anal 10:413), and everything it needs are inner products. The exponential's column is tabulated on a
logarithmic grid of rates with two exact derivatives; between neighbours it is a quintic Hermite polynomial, so a
voxel costs one row of a matrix product for the grid, six inner products for its bracket, and a safeguarded Newton
iteration on numbers alone. Voxels with missing samples pay for their own Gram matrix.
"""

from __future__ import annotations

import numba
import numpy as np

_FAST = {"reassoc", "contract", "nsz", "arcp"}
_CHUNK = 4096


@numba.njit(cache=True)
def _hermite(u: float, w: np.ndarray, dw: np.ndarray) -> None:
    """Weights of value, slope and curvature (in units of the interval) at both ends, and their derivatives."""
    u2, v = u * u, 1.0 - u
    u3, v3 = u2 * u, v * v * v
    w[0] = v3 * (1.0 + 3.0 * u + 6.0 * u2)
    w[1] = v3 * u * (1.0 + 3.0 * u)
    w[2] = 0.5 * v3 * u2
    w[3] = u3 * (10.0 - 15.0 * u + 6.0 * u2)
    w[4] = -u3 * v * (4.0 - 3.0 * u)
    w[5] = 0.5 * u3 * v * v
    dw[0] = -30.0 * u2 * v * v
    dw[1] = v * v * (1.0 + 2.0 * u - 15.0 * u2)
    dw[2] = 0.5 * u * v * v * (2.0 - 5.0 * u)
    dw[3] = 30.0 * u2 * v * v
    dw[4] = -u2 * (12.0 - 28.0 * u + 15.0 * u2)
    dw[5] = 0.5 * u2 * (3.0 - 8.0 * u + 5.0 * u2)


@numba.njit(cache=True)
def _amplitudes(
    ya: float, yb: float, aa: float, ab: float, bb: float, two: bool
) -> tuple[float, float, float]:
    """Non-negative amplitudes of two columns, and by how much they lower the sum of squares."""
    if two:
        det = aa * bb - ab * ab
        if det > 1e-13 * aa * bb:
            p, q = (ya * bb - yb * ab) / det, (yb * aa - ya * ab) / det
            if p >= 0.0 and q >= 0.0:
                return p, q, p * ya + q * yb
    one = ya / aa if two and aa > 0.0 and ya > 0.0 else 0.0
    other = yb / bb if bb > 0.0 and yb > 0.0 else 0.0
    if one * ya > other * yb:
        return one, 0.0, one * ya
    return 0.0, other, other * yb


@numba.njit(cache=True, fastmath=_FAST)
def _dot(a: np.ndarray, b: np.ndarray) -> float:
    s = 0.0
    for t in range(a.shape[0]):
        s += a[t] * b[t]
    return s


@numba.njit(cache=True, fastmath=_FAST)
def _dot3(m: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    s = 0.0
    for t in range(a.shape[0]):
        s += m[t] * a[t] * b[t]
    return s


@numba.njit(cache=True)
def _sums(
    u: float, d: np.ndarray, g: np.ndarray, gram: np.ndarray, w: np.ndarray, dw: np.ndarray, s: np.ndarray
) -> None:
    """Inner products at a place in the bracket: yE, cE, EE, yE', cE', EE', E'E'."""
    _hermite(u, w, dw)
    s[:] = 0.0
    for i in range(6):
        s[0] += w[i] * d[i]
        s[1] += w[i] * g[i]
        s[3] += dw[i] * d[i]
        s[4] += dw[i] * g[i]
        row = drow = 0.0
        for j in range(6):
            row += gram[i, j] * w[j]
            drow += gram[i, j] * dw[j]
        s[2] += w[i] * row
        s[5] += dw[i] * row
        s[6] += dw[i] * drow


@numba.njit(cache=True)
def _refine(
    y: np.ndarray, m: np.ndarray, whole: np.ndarray, c: np.ndarray, two: bool, V: np.ndarray, x: np.ndarray,
    ya: np.ndarray, P: np.ndarray, aa: np.ndarray, ab: np.ndarray, bb: np.ndarray, G0: np.ndarray, g0: np.ndarray,
    out: np.ndarray,
) -> None:  # fmt: skip
    """Amplitudes, log rate, RSS and information matrix of each voxel into ``out`` (n, 11).

    V (K, 3, T) holds value, slope and curvature of the column in units of the grid's interval.
    """
    K, h = V.shape[0], x[1] - x[0]
    w, dw, s, d, g = np.zeros(6), np.zeros(6), np.zeros(7), np.zeros(6), np.zeros(6)
    gram = np.zeros((6, 6))
    for n in range(y.shape[0]):
        r = 0 if whole[n] else n + 1
        best, i = -1.0, 0
        for k in range(K):
            gain = _amplitudes(ya[n], P[n, k], aa[r], ab[r, k], bb[r, k], two)[2]
            if gain > best:
                best, i = gain, k
        # which side of the best node does the sum of squares fall to?
        lo, u = min(i, K - 2), 0.0 if i < K - 1 else 1.0
        turned = False
        while True:
            for e in range(6):
                d[e] = _dot(y[n], V[lo + e // 3, e % 3])
            if whole[n]:
                g[:] = g0[lo]
                gram[:] = G0[lo]
            else:
                for e in range(6):
                    row = V[lo + e // 3, e % 3]
                    g[e] = _dot3(m[n], c, row)
                    for f in range(e + 1):
                        gram[e, f] = _dot3(m[n], row, V[lo + f // 3, f % 3])
                        gram[f, e] = gram[e, f]
            low, high = 0.0, 1.0
            for step in range(30):
                _sums(u, d, g, gram, w, dw, s)
                a, b, _ = _amplitudes(ya[n], s[0], aa[r], s[1], s[2], two)
                slope = -b * (s[3] - a * s[4] - b * s[5])  # half the derivative of the sum of squares
                # Gauss-Newton curvature: the part of E' outside the span of the free columns
                bend = s[6]
                if a > 0.0:
                    det = aa[r] * s[2] - s[1] * s[1]
                    if det > 0.0:
                        bend -= (s[2] * s[4] ** 2 - 2.0 * s[1] * s[4] * s[5] + aa[r] * s[5] ** 2) / det
                elif s[2] > 0.0:
                    bend -= s[5] ** 2 / s[2]
                bend *= b * b
                if slope > 0.0:
                    high = u
                else:
                    low = u
                if b == 0.0:
                    break
                move = -slope / bend if bend > 0.0 else 0.0
                if abs(move) < 1e-8:
                    break
                new = u + move
                if step == 0 and i > 0 and lo == i and new < 0.0 and not turned:
                    break
                if new <= low or new >= high:
                    new = 0.5 * (low + high)
                    if (
                        (high == 1.0 and low > 1.0 - 1e-9)
                        or (low == 0.0 and high < 1e-9)
                        or high - low < 1e-12
                    ):
                        u = new
                        break
                u = new
            if step == 0 and i > 0 and lo == i and u == 0.0 and slope > 0.0 and not turned:
                lo, u, turned = i - 1, 1.0, True
                continue
            break
        _sums(u, d, g, gram, w, dw, s)
        a, b, gain = _amplitudes(ya[n], s[0], aa[r], s[1], s[2], two)
        out[n, 0], out[n, 1], out[n, 2] = a, b, x[lo] + u * h
        # residual sum by its definition: differences of sums would cancel where the fit is good
        rss = 0.0
        for t in range(c.shape[0]):
            f = a * c[t]
            for e in range(6):
                f += b * w[e] * V[lo + e // 3, e % 3, t]
            rss += m[n, t] * (y[n, t] - f) ** 2
        out[n, 3] = rss
        out[n, 4], out[n, 5], out[n, 6] = aa[r], s[1], b * s[4] / h
        out[n, 7], out[n, 8], out[n, 9] = s[2], b * s[5] / h, b * b * s[6] / h**2
        out[n, 10] = 1.0 if (lo == 0 and u < 1e-6) or (lo == K - 2 and u > 1.0 - 1e-6) else 0.0


def fit_one_rate(
    curves: np.ndarray, fixed: np.ndarray | None, columns: np.ndarray, log_rates: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Non-negative least squares of each curve on ``fixed`` and ``E(k)`` with the best rate k.

    Parameters
    ----------
    curves : ndarray, shape (n, T)
        NaN marks a missing sample.
    fixed : ndarray, shape (T,), optional
    columns : ndarray, shape (3, K, T)
        E and its first and second derivative with respect to log k on the grid.
    log_rates : ndarray, shape (K,)
        Equally spaced.

    Returns
    -------
    amplitudes : ndarray, shape (1 or 2, n)
    log_rate : ndarray, shape (n,)
    rss : ndarray, shape (n,)
    information : ndarray, shape (n, p, p)
        ``J^T J`` of (amplitudes, log rate).
    edge : ndarray of bool, shape (n,)
        The rate stands at an end of the grid.
    """
    h = log_rates[1] - log_rates[0]
    T = columns.shape[2]
    two = fixed is not None
    c = np.ascontiguousarray(fixed) if fixed is not None else np.zeros(T)
    V = np.ascontiguousarray(np.moveaxis(columns * np.array([1.0, h, h * h])[:, None, None], 0, 1))
    E = np.ascontiguousarray(columns[0])
    pairs = np.concatenate([V[:-1], V[1:]], axis=1)  # (K-1, 6, T)
    G0, g0 = pairs @ pairs.transpose(0, 2, 1), pairs @ c
    out = np.zeros((len(curves), 11))
    for start in range(0, len(curves), _CHUNK):
        y = np.array(curves[start : start + _CHUNK], dtype=float)
        m = np.isfinite(y)
        whole = m.all(axis=1)
        y[~m] = 0.0
        some = not whole.all()
        weights = m.astype(float)
        # row 0 is for complete voxels, row n + 1 for voxel n
        aa, ab, bb = np.array([c @ c]), (E @ c)[None], (E**2).sum(axis=1)[None]
        if some:
            aa = np.concatenate([aa, weights @ c**2])
            ab = np.concatenate([ab, weights @ (E * c).T])
            bb = np.concatenate([bb, weights @ (E**2).T])
        _refine(
            y, weights, whole, c, two, V, log_rates, y @ c, y @ E.T, aa, ab, bb, G0, g0, out[start : start + _CHUNK]
        )  # fmt: skip
    free = slice(0, 2) if two else slice(1, 2)
    full = out[:, [4, 5, 6, 5, 7, 8, 6, 8, 9]].reshape(-1, 3, 3)
    keep = slice(0, 3) if two else slice(1, 3)
    return out[:, free].T.copy(), out[:, 2].copy(), out[:, 3].copy(), full[:, keep, keep], out[:, 10] > 0
