"""Convolution of a piecewise linear input with a decaying exponential, exact at any time.

``E(t) = integral exp(-k (t - s)) c(s) ds`` solves ``E' = c - k E``. Over a step in which c is linear the solution
needs the functions ``phi_n(a) = integral_0^1 exp(-a (1 - s)) s^(n-1)/(n-1)! ds`` of ``a = k dt`` alone, as in
exponential integrators (Hochbruck & Ostermann 2010, Acta Numerica 19:209); so do its derivatives with respect
to k. Times are in minutes, rates in 1/min.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput


@numba.njit(cache=True)
def phis(a: float) -> tuple[float, float, float, float, float]:
    """phi_0 to phi_4 of a >= 0: a series below one, where the recursion upwards cancels."""
    if a < 1.0:
        p4 = 1.0
        for j in range(20, 4, -1):
            p4 = 1.0 - a * p4 / j
        p4 /= 24.0
        p3 = 1.0 / 6.0 - a * p4
        p2 = 0.5 - a * p3
        p1 = 1.0 - a * p2
        return 1.0 - a * p1, p1, p2, p3, p4
    p0 = np.exp(-a)
    p1 = (1.0 - p0) / a
    p2 = (1.0 - p1) / a
    p3 = (0.5 - p2) / a
    return p0, p1, p2, p3, (1.0 / 6.0 - p3) / a


@numba.njit(cache=True)
def exchange_step(tissue: np.ndarray, kep: np.ndarray, before: float, after: float, dt: float) -> None:
    """Advance ``d tissue/dt = Cp - kep tissue`` by dt in place, Cp linear from ``before`` to ``after``."""
    for x in range(tissue.shape[0]):
        p0, p1, p2, _, _ = phis(kep[x] * dt)
        tissue[x] = p0 * tissue[x] + dt * (before * (p1 - p2) + after * p2)


@numba.njit(cache=True)
def advance(
    k: float, dt: float, c0: float, c1: float, e: float, d: float, q: float
) -> tuple[float, float, float]:
    """E, dE/dk and d2E/dk2 after a step in which the input goes linearly from c0 to c1."""
    p0, p1, p2, p3, p4 = phis(k * dt)
    up = c1 - c0
    return (
        p0 * e + dt * (c0 * p1 + up * p2),
        p0 * (d - dt * e) - dt * dt * (c0 * (p1 - p2) + up * (p2 - 2.0 * p3)),
        p0 * (q - 2.0 * dt * d + dt * dt * e)
        + dt**3 * (c0 * (p1 - 2.0 * p2 + 2.0 * p3) + up * (p2 - 4.0 * p3 + 6.0 * p4)),
    )


@numba.njit(cache=True)
def convolve(
    ta: np.ndarray, ca: np.ndarray, k: float, at: np.ndarray, e: np.ndarray, d: np.ndarray, q: np.ndarray
) -> None:
    """E, dE/dk, d2E/dk2 at increasing times: nothing came before ``ta[0]``, the last value holds after the end."""
    i, last = 0, ta.shape[0] - 1
    e0 = d0 = q0 = 0.0
    for j in range(at.shape[0]):
        t = at[j]
        if t <= ta[0]:
            e[j] = d[j] = q[j] = 0.0
            continue
        while i < last and ta[i + 1] <= t:
            e0, d0, q0 = advance(k, ta[i + 1] - ta[i], ca[i], ca[i + 1], e0, d0, q0)
            i += 1
        if t == ta[i]:
            e[j], d[j], q[j] = e0, d0, q0
            continue
        end = ca[last] if i == last else ca[i] + (ca[i + 1] - ca[i]) * (t - ta[i]) / (ta[i + 1] - ta[i])
        e[j], d[j], q[j] = advance(k, t - ta[i], ca[i], end, e0, d0, q0)


@numba.njit(cache=True)
def integrate(
    ta: np.ndarray,
    ca: np.ndarray,
    at: np.ndarray,
    c: np.ndarray,
    slope: np.ndarray,
    one: np.ndarray,
    two: np.ndarray,
) -> None:
    """The input, its slope, its running integral and that one's integral at increasing times."""
    i, last = 0, ta.shape[0] - 1
    s1 = s2 = 0.0
    for j in range(at.shape[0]):
        t = at[j]
        if t < ta[0]:
            c[j] = slope[j] = one[j] = two[j] = 0.0
            continue
        while i < last and ta[i + 1] <= t:
            h = ta[i + 1] - ta[i]
            s2 += h * s1 + h * h * (2.0 * ca[i] + ca[i + 1]) / 6.0
            s1 += h * (ca[i] + ca[i + 1]) / 2.0
            i += 1
        h = t - ta[i]
        g = 0.0 if i == last else (ca[i + 1] - ca[i]) / (ta[i + 1] - ta[i])
        c[j], slope[j] = ca[i] + g * h, g
        one[j] = s1 + h * ca[i] + g * h * h / 2.0
        two[j] = s2 + h * s1 + h * h * ca[i] / 2.0 + g * h**3 / 6.0


def checked_input(cp: ArrayLike, times: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The samples of an arterial input and their times as arrays.

    Raises
    ------
    BadInput
        If the times do not increase, the shapes differ, or a value is not finite.
    """
    c, t = np.ascontiguousarray(cp, dtype=float), np.ascontiguousarray(times, dtype=float)
    if c.shape != t.shape or c.ndim != 1:
        raise BadInput(f"{c.shape} plasma samples came with {t.shape} times", "arterial input")
    if len(t) < 2 or not (np.diff(t) > 0).all():
        raise BadInput("the sample times do not increase", "arterial input")
    if not (np.isfinite(c).all() and np.isfinite(t).all()):
        raise BadInput("a sample is not finite", "arterial input", "fill or leave out missing samples")
    return c, t


def exponential_convolution(
    cp: ArrayLike, times: ArrayLike, kep: ArrayLike, at: ArrayLike | None = None
) -> np.ndarray:
    """``integral_0^t exp(-kep (t - s)) Cp(s) ds``, exact for piecewise linear Cp.

    Parameters
    ----------
    cp : array_like, shape (A,)
    times : array_like, shape (A,)
        Increasing, min. Nothing is assumed to have come before the first.
    kep : array_like, shape (n,)
        1/min, not negative; zero gives the running integral.
    at : array_like, shape (T,), optional
        Increasing times at which the result is wanted, min; the sample times by default.

    Returns
    -------
    ndarray, shape (n, T)

    Raises
    ------
    BadInput
        If the times do not increase or the shapes differ.
    """
    c, t = checked_input(cp, times)
    wanted = t if at is None else np.ascontiguousarray(at, dtype=float)
    k = np.atleast_1d(np.asarray(kep, dtype=float))
    return tables(t, c, k, wanted)[0]


def tables(ta: np.ndarray, ca: np.ndarray, rates: np.ndarray, at: np.ndarray) -> np.ndarray:
    """E and its first two derivatives with respect to the rate, shape (3, n, T)."""
    out = np.zeros((3, len(rates), len(at)))
    _tables(ta, ca, rates, at, out)
    return out


@numba.njit(cache=True)
def _tables(ta: np.ndarray, ca: np.ndarray, rates: np.ndarray, at: np.ndarray, out: np.ndarray) -> None:
    for i in range(rates.shape[0]):
        convolve(ta, ca, rates[i], at, out[0, i], out[1, i], out[2, i])
