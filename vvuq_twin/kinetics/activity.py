"""Time-activity curves of a decaying nuclide: one or two exponentials, and the time-integrated activity.

``A(t) = A1 exp(-l1 t)`` or ``A1 exp(-l1 t) + A2 exp(-l2 t)``, where A2 may be negative (uptake), every rate is at
least that of physical decay, and the integral from zero to infinity is ``sum A_i / l_i`` (MIRD; Siegel et al. 1999,
J Nucl Med 40:37S). Activity as it is at its time, not corrected for decay. Times in hours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput
from .small import solve_small


@dataclass(frozen=True)
class ActivityFit:
    """Exponential fits of n curves.

    Parameters
    ----------
    amplitudes, rates : ndarray, shape (n, m)
        In the unit of the curves, and 1/h; slowest first.
    integral, integral_se : ndarray, shape (n,)
        From zero to infinity, unit times h. The error is NaN where nothing says how large the noise is (as many
        samples as parameters, and none given).
    residual : ndarray, shape (n,)
        Root mean square of the weighted residuals over the degrees of freedom left; near one where the given
        errors are right; 0 where none are left.
    tail : ndarray, shape (n,)
        Share of the integral after the last sample: what rests on extrapolation.
    """

    amplitudes: np.ndarray
    rates: np.ndarray
    integral: np.ndarray
    integral_se: np.ndarray
    residual: np.ndarray
    tail: np.ndarray


def decay_rate(half_life: float) -> float:
    """ln 2 over the half-life.

    Raises
    ------
    BadInput
        If the half-life is not positive.
    """
    if not half_life > 0:
        raise BadInput(f"the half-life is {half_life:g}", "nuclide", "give a positive time")
    return float(np.log(2.0) / half_life)


def fit_activity(
    curves: np.ndarray,
    times: ArrayLike,
    half_life: float,
    *,
    exponentials: int = 1,
    sd: np.ndarray | float | None = None,
    fastest: float = 5.0,
) -> ActivityFit:
    """Weighted least-squares fit of many curves at once.

    Parameters
    ----------
    curves : ndarray, shape (n, T)
        Activity or activity concentration; NaN marks a missing sample.
    times : array_like, shape (T,)
        h after administration.
    half_life : float
        Physical, h: no rate is slower than its decay.
    exponentials : {1, 2}
    sd : ndarray, shape (n, T) or (T,), or float, optional
        Standard deviations of the samples; all alike and estimated from the residuals if absent.
    fastest : float
        Upper bound of a rate, 1/h.

    Raises
    ------
    BadInput
        If shapes do not fit, times do not increase or are negative, or there are fewer samples than parameters.
    """
    t = np.ascontiguousarray(times, dtype=float)
    y = np.asarray(curves, dtype=float)
    if exponentials not in (1, 2):
        raise BadInput(f"{exponentials} exponentials were asked for", "time-activity curve", "use 1 or 2")
    if y.ndim != 2 or t.ndim != 1 or y.shape[1] != len(t):
        raise BadInput(
            f"curves of shape {y.shape} do not fit {t.size} times", "time-activity curve", "give (n, T)"
        )
    if len(t) < 2 * exponentials:
        raise BadInput(
            f"{len(t)} scans cannot determine {exponentials} exponentials", "time-activity curve",
            f"give {2 * exponentials} at least, or use fewer exponentials",
        )  # fmt: skip
    if not (np.diff(t) > 0).all() or t[0] < 0:
        raise BadInput(
            "the times do not increase from zero", "time-activity curve", "give hours after administration"
        )
    low = decay_rate(half_life)
    if not fastest > low:
        raise BadInput(f"rates cannot lie between {low:g} and {fastest:g} 1/h", "time-activity curve")
    known = sd is not None
    spread = np.broadcast_to(np.asarray(1.0 if sd is None else sd, dtype=float), y.shape)
    if not (spread[np.isfinite(y)] > 0).all():
        raise BadInput("a standard deviation of a sample is not positive", "time-activity curve")
    there = np.isfinite(y)
    weight = np.where(there, 1.0 / np.where(there, spread, 1.0), 0.0)
    p = 2 * exponentials
    theta, info, rss = np.zeros((len(y), p)), np.zeros((len(y), p, p)), np.zeros(len(y))
    _fit(
        np.where(there, y, 0.0) * weight,
        weight,
        t,
        exponentials,
        np.log(low),
        np.log(fastest),
        theta,
        info,
        rss,
    )
    amplitudes, rates = theta[:, :exponentials], np.exp(theta[:, exponentials:])
    used = there.sum(axis=1)
    free = used - p
    residual = np.sqrt(rss / np.maximum(free, 1)) * (free > 0)
    scale = np.ones(len(y)) if known else np.where(free > 0, residual, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = amplitudes / rates
        integral = parts.sum(axis=1)
        tail = (parts * np.exp(-rates * t[-1])).sum(axis=1) / integral
    # integral of (amplitude, log rate): 1/l and -A/l
    gradient = np.concatenate([1.0 / rates, -parts], axis=1)
    held = np.concatenate(
        [np.zeros_like(rates, bool), (rates <= low * (1 + 1e-9)) | (rates >= fastest * (1 - 1e-9))], 1
    )
    variance = np.array([_quadratic(i, g, h) for i, g, h in zip(info, gradient, held)]).reshape(len(y))
    integral_se = scale * np.sqrt(variance)
    short = used < p
    for value in (integral, integral_se, tail):
        value[short] = np.nan
    return ActivityFit(amplitudes, rates, integral, integral_se, residual, tail)


def _quadratic(info: np.ndarray, gradient: np.ndarray, held: np.ndarray) -> float:
    """Variance of a linear function of the free parameters for unit noise; NaN if it is not determined."""
    free = ~held & (np.diag(info) > 0)
    scale = np.sqrt(np.diag(info)[free])
    unit = info[np.ix_(free, free)] / np.outer(scale, scale)
    if not free.any() or np.linalg.cond(unit) > 1e13:
        return float("nan")
    g = gradient[free] / scale
    return float(g @ np.linalg.solve(unit, g))


@numba.njit(cache=True)
def _profile(
    y: np.ndarray, w: np.ndarray, t: np.ndarray, logs: np.ndarray, m: int, a: np.ndarray, J: np.ndarray
) -> float:
    """Best amplitudes for given log rates into ``a``, residual sum of squares; columns and slopes into J (2m, T)."""
    T = t.shape[0]
    G = np.zeros((2, 2))
    b = np.zeros(2)
    for i in range(m):
        k = np.exp(logs[i])
        for j in range(T):
            J[i, j] = w[j] * np.exp(-k * t[j])
            J[m + i, j] = -k * t[j] * J[i, j]
            b[i] += J[i, j] * y[j]
        for l in range(i + 1):
            v = 0.0
            for j in range(T):
                v += J[i, j] * J[l, j]
            G[i, l] = G[l, i] = v
    if m == 1:
        a[0] = b[0] / G[0, 0] if G[0, 0] > 0 else 0.0
    else:
        det = G[0, 0] * G[1, 1] - G[0, 1] ** 2
        if det <= 1e-14 * G[0, 0] * G[1, 1]:
            return np.inf
        a[0] = (b[0] * G[1, 1] - b[1] * G[0, 1]) / det
        a[1] = (b[1] * G[0, 0] - b[0] * G[0, 1]) / det
        # activity is not negative: the slow term carries the tail, and the sum at time zero is not below zero
        if a[0] < 0.0 or a[0] + a[1] < -1e-9 * a[0]:
            a[1] = -a[0] if a[0] > 0.0 else 0.0
            num = den = 0.0
            for j in range(T):
                f = J[0, j] - J[1, j]
                num += f * y[j]
                den += f * f
            a[0] = max(num / den, 0.0) if den > 0 else 0.0
            a[1] = -a[0]
    rss = 0.0
    for j in range(T):
        f = 0.0
        for i in range(m):
            f += a[i] * J[i, j]
        rss += (y[j] - f) ** 2
    return rss


@numba.njit(cache=True)
def _fit(
    y: np.ndarray, w: np.ndarray, t: np.ndarray, m: int, low: float, high: float, theta: np.ndarray, info: np.ndarray,
    rss: np.ndarray,
) -> None:  # fmt: skip
    """Grid over log rates, Gauss-Newton from its best, then a shrinking search; amplitudes in closed form."""
    n, T = y.shape
    K = 60
    J, a = np.zeros((4, T)), np.zeros(2)
    logs, best_logs, trial = np.zeros(2), np.zeros(2), np.zeros(2)
    H, g, step = np.zeros((6, 6)), np.zeros(6), np.zeros(6)
    for v in range(n):
        best = np.inf
        for i in range(K):
            logs[0] = low + (high - low) * i / (K - 1)
            for l in range(i + 1 if m == 2 else 0, K if m == 2 else 1):
                if m == 2:
                    logs[1] = low + (high - low) * l / (K - 1)
                found = _profile(y[v], w[v], t, logs, m, a, J)
                if found < best:
                    best = found
                    best_logs[:] = logs
        # Gauss-Newton on all parameters, then compass search: the profile has a kink where amplitudes meet a bound
        damping = 1e-4
        for _ in range(60):
            _profile(y[v], w[v], t, best_logs, m, a, J)
            for i in range(m):
                for j in range(T):
                    J[m + i, j] *= a[i]
            for i in range(2 * m):
                g[i] = 0.0
                for j in range(T):
                    f = 0.0
                    for l in range(m):
                        f += a[l] * J[l, j]
                    g[i] += J[i, j] * (y[v, j] - f)
                for l in range(2 * m):
                    H[i, l] = 0.0
                    for j in range(T):
                        H[i, l] += J[i, j] * J[l, j]
                H[i, i] *= 1.0 + damping
            if not solve_small(H, g, 2 * m, step):
                break
            size = 0.0
            for i in range(m):
                trial[i] = min(max(best_logs[i] + min(max(step[m + i], -0.5), 0.5), low), high)
                size = max(size, abs(trial[i] - best_logs[i]))
            if size < 1e-13:
                break
            found = _profile(y[v], w[v], t, trial, m, a, J)
            if found < best:
                best = found
                best_logs[:] = trial
                damping *= 0.1
            else:
                damping = max(damping * 10.0, 1e-8)
                if damping > 1e8:
                    break
        h = 1e-3
        for _ in range(400):
            moved = False
            for i in range(m):
                for sign in (-1.0, 1.0):
                    trial[:] = best_logs
                    trial[i] = min(max(trial[i] + sign * h, low), high)
                    found = _profile(y[v], w[v], t, trial, m, a, J)
                    if found < best:
                        best, moved = found, True
                        best_logs[:] = trial
            if m == 2:
                for sign in (-1.0, 1.0):
                    for other in (-1.0, 1.0):
                        trial[0] = min(max(best_logs[0] + sign * h, low), high)
                        trial[1] = min(max(best_logs[1] + other * h, low), high)
                        found = _profile(y[v], w[v], t, trial, m, a, J)
                        if found < best:
                            best, moved = found, True
                            best_logs[:] = trial
            if not moved:
                h *= 0.5
                if h < 1e-11:
                    break
        rss[v] = _profile(y[v], w[v], t, best_logs, m, a, J)
        for i in range(m):
            theta[v, i], theta[v, m + i] = a[i], best_logs[i]
            for j in range(T):
                J[m + i, j] *= a[i]
        for i in range(2 * m):
            for l in range(2 * m):
                s = 0.0
                for j in range(T):
                    s += J[i, j] * J[l, j]
                info[v, i, l] = s
