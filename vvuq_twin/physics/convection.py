"""Compiled transport sub-step: diffusion and convection of the interstitial concentration.

``phi dc/dt = div(phi_f D grad c) - div(v c)`` in finite volumes with closed mask edges, by Heun's
method (two Euler stages, strong-stability preserving): conservative, and monotone with upwind or
van Leer limited face values within the step bound of :func:`transport_bound`.
"""

from __future__ import annotations

from .kernels import divergence
from .rowmath import Array, compiled

#: One array per axis.
Three = tuple[Array, Array, Array]

#: Face value of the convected concentration.
UPWIND, VAN_LEER, CENTRAL = 0, 1, 2


@compiled
def _limited(up2: float, up: float, down: float, has_up2: bool) -> float:
    """Van Leer's (1974) limited face value, upwind where there is no second upstream cell."""
    if not has_up2:
        return up
    a, b = up - up2, down - up
    if a * b <= 0.0:
        return up
    return up + a * b / (a + b)


@compiled
def _face_flux(
    c: Array, v: Array, g: Array, i: int, j: int, k: int, di: int, dj: int, dk: int, scheme: int
) -> float:
    """Convective flux through the face below cell (i, j, k), towards increasing index."""
    low, high = c[i - di, j - dj, k - dk], c[i, j, k]
    speed = v[i, j, k]
    if scheme == 2:
        return speed * 0.5 * (low + high)
    if speed >= 0.0:
        if scheme == 0:
            return speed * low
        open_up = g[i - di, j - dj, k - dk] > 0
        up2 = c[i - 2 * di, j - 2 * dj, k - 2 * dk] if open_up else 0.0
        return speed * _limited(up2, low, high, open_up)
    if scheme == 0:
        return speed * high
    open_up = g[i + di, j + dj, k + dk] > 0
    up2 = c[i + di, j + dj, k + dk] if open_up else 0.0
    return speed * _limited(up2, high, low, open_up)


@compiled
def transport_rate(
    c: Array, g: Three, v: Three, flow: bool, group: Three,
    rows: Array, scheme: int, out: Array,
) -> None:  # fmt: skip
    """``out = div(g grad c) - div(v c)``; ``v`` is already divided by the spacing, zero at closed faces."""
    g0, g1, g2 = g
    v0, v1, v2 = v
    q0, q1, q2 = group
    if not flow:
        divergence(c, g0, g1, g2, rows, out)
        return
    for r in range(rows.shape[0]):
        i, j, a, b = rows[r]
        for k in range(a, b):
            here = c[i, j, k]
            total = g0[i + 1, j, k] * (c[i + 1, j, k] - here) - g0[i, j, k] * (here - c[i - 1, j, k])
            total += g1[i, j + 1, k] * (c[i, j + 1, k] - here) - g1[i, j, k] * (here - c[i, j - 1, k])
            total += g2[i, j, k + 1] * (c[i, j, k + 1] - here) - g2[i, j, k] * (here - c[i, j, k - 1])
            if q0[i, j, k] > 0:
                total += _face_flux(c, v0, q0, i, j, k, 1, 0, 0, scheme)
            if q0[i + 1, j, k] > 0:
                total -= _face_flux(c, v0, q0, i + 1, j, k, 1, 0, 0, scheme)
            if q1[i, j, k] > 0:
                total += _face_flux(c, v1, q1, i, j, k, 0, 1, 0, scheme)
            if q1[i, j + 1, k] > 0:
                total -= _face_flux(c, v1, q1, i, j + 1, k, 0, 1, 0, scheme)
            if q2[i, j, k] > 0:
                total += _face_flux(c, v2, q2, i, j, k, 0, 0, 1, scheme)
            if q2[i, j, k + 1] > 0:
                total -= _face_flux(c, v2, q2, i, j, k + 1, 0, 0, 1, scheme)
            out[i, j, k] = total


@compiled
def transport_bound(
    g: tuple[Array, Array, Array],
    v: tuple[Array, Array, Array],
    inverse_phi: Array,
    rows: Array,
    flow: bool,
    scheme: int,
) -> float:
    """Largest rate at which a cell empties, 1/time: an Euler step shorter than its inverse is monotone."""
    g0, g1, g2 = g
    v0, v1, v2 = v
    most = 0.0
    factor = 1.0 if scheme == 0 else 2.0
    for r in range(rows.shape[0]):
        i, j, a, b = rows[r]
        for k in range(a, b):
            total = (
                g0[i, j, k] + g0[i + 1, j, k] + g1[i, j, k] + g1[i, j + 1, k] + g2[i, j, k] + g2[i, j, k + 1]
            )
            if flow:
                leaving = max(v0[i + 1, j, k], 0.0) + max(-v0[i, j, k], 0.0)
                leaving += max(v1[i, j + 1, k], 0.0) + max(-v1[i, j, k], 0.0)
                leaving += max(v2[i, j, k + 1], 0.0) + max(-v2[i, j, k], 0.0)
                total += factor * leaving
            most = max(most, total * inverse_phi[i, j, k])
    return most


@compiled
def transport_step(
    c: Array, g: Three, v: Three, flow: bool, group: Three,
    inverse_phi: Array, rows: Array, scheme: int, dt: float, substeps: int, first: Array, rate: Array,
) -> None:  # fmt: skip
    """``substeps`` Heun steps of together ``dt`` on the concentration ``c``, in place."""
    h = dt / substeps
    for _ in range(substeps):
        transport_rate(c, g, v, flow, group, rows, scheme, rate)
        for r in range(rows.shape[0]):
            i, j, a, b = rows[r]
            u, f, w, q = c[i, j, a:b], first[i, j, a:b], inverse_phi[i, j, a:b], rate[i, j, a:b]
            for k in range(u.size):
                f[k] = u[k] + h * w[k] * q[k]
        transport_rate(first, g, v, flow, group, rows, scheme, rate)
        for r in range(rows.shape[0]):
            i, j, a, b = rows[r]
            u, f, w, q = c[i, j, a:b], first[i, j, a:b], inverse_phi[i, j, a:b], rate[i, j, a:b]
            for k in range(u.size):
                u[k] = 0.5 * (u[k] + f[k] + h * w[k] * q[k])
