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
def _add_flux(
    out: Array, sign: float, speed: Array, two_below: Array, below: Array, above: Array, two_above: Array,
    open_below: Array, open_above: Array, scheme: int,
) -> None:  # fmt: skip
    """Add ``sign`` times the convective flux through a row of faces, towards increasing index, to ``out``.

    Limited values are van Leer's (1974), upwind where there is no second upstream cell. The loops have no
    branch, so that the compiler vectorises them.
    """
    if scheme == 0:
        for k in range(out.size):
            s = speed[k]
            out[k] += sign * (max(s, 0.0) * below[k] + min(s, 0.0) * above[k])
    elif scheme == 2:
        for k in range(out.size):
            out[k] += sign * speed[k] * 0.5 * (below[k] + above[k])
    else:
        for k in range(out.size):
            s = speed[k]
            forward = s >= 0.0
            up = below[k] if forward else above[k]
            down = above[k] if forward else below[k]
            beyond = two_below[k] if forward else two_above[k]
            known = open_below[k] if forward else open_above[k]
            a, b = up - beyond, down - up
            bends = (a * b > 0.0) & (known > 0)
            both = a + b if bends else 1.0
            rise = a * b / both if bends else 0.0
            out[k] += sign * s * (up + rise)


@compiled
def _row_convection(
    c: Array,
    v: Three,
    pace: tuple[float, float, float],
    group: Three,
    i: int,
    j: int,
    a: int,
    b: int,
    scheme: int,
    out: Array,
) -> None:
    """Add ``-div(v c)`` of the cells a..b-1 of row (i, j) to ``out``; speeds are zero at closed faces."""
    v0, v1, v2 = v
    p0, p1, p2 = pace
    q0, q1, q2 = group
    ni, nj, nk = c.shape
    # where the second neighbour is off the box the face between is closed: any cell will do
    low, high = max(i - 2, 0), min(i + 2, ni - 1)
    here, below, above = c[i, j, a:b], c[i - 1, j, a:b], c[i + 1, j, a:b]
    _add_flux(
        out,
        p0,
        v0[i, j, a:b],
        c[low, j, a:b],
        below,
        here,
        above,
        q0[i - 1, j, a:b],
        q0[i + 1, j, a:b],
        scheme,
    )
    _add_flux(
        out,
        -p0,
        v0[i + 1, j, a:b],
        below,
        here,
        above,
        c[high, j, a:b],
        q0[i, j, a:b],
        q0[high, j, a:b],
        scheme,
    )
    low, high = max(j - 2, 0), min(j + 2, nj - 1)
    below, above = c[i, j - 1, a:b], c[i, j + 1, a:b]
    _add_flux(
        out,
        p1,
        v1[i, j, a:b],
        c[i, low, a:b],
        below,
        here,
        above,
        q1[i, j - 1, a:b],
        q1[i, j + 1, a:b],
        scheme,
    )
    _add_flux(
        out,
        -p1,
        v1[i, j + 1, a:b],
        below,
        here,
        above,
        c[i, high, a:b],
        q1[i, j, a:b],
        q1[i, high, a:b],
        scheme,
    )
    # along the row the first and the last face may be at the end of the box, where they are closed
    s = 1 if a < 2 else 0
    e = b - 1 if b + 2 > nk else b
    f = a + s
    _add_flux(
        out[s:], p2, v2[i, j, f:b], c[i, j, f - 2 : b - 2], c[i, j, f - 1 : b - 1], c[i, j, f:b],
        c[i, j, f + 1 : b + 1], q2[i, j, f - 1 : b - 1], q2[i, j, f + 1 : b + 1], scheme,
    )  # fmt: skip
    _add_flux(
        out[: e - a], -p2, v2[i, j, a + 1 : e + 1], c[i, j, a - 1 : e - 1], c[i, j, a:e], c[i, j, a + 1 : e + 1],
        c[i, j, a + 2 : e + 2], q2[i, j, a:e], q2[i, j, a + 2 : e + 2], scheme,
    )  # fmt: skip


@compiled
def transport_rate(
    c: Array, g: Three, v: Three, pace: tuple[float, float, float], flow: bool, group: Three,
    rows: Array, scheme: int, out: Array,
) -> None:  # fmt: skip
    """``out = div(g grad c) - div(v c)``; ``v`` is zero at closed faces, ``pace`` one over the spacing."""
    g0, g1, g2 = g
    divergence(c, g0, g1, g2, rows, out)
    if not flow:
        return
    for r in range(rows.shape[0]):
        i, j, a, b = rows[r]
        _row_convection(c, v, pace, group, i, j, a, b, scheme, out[i, j, a:b])


@compiled
def transport_bound(
    g: tuple[Array, Array, Array],
    v: tuple[Array, Array, Array],
    pace: tuple[float, float, float],
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
                leaving = pace[0] * (max(v0[i + 1, j, k], 0.0) + max(-v0[i, j, k], 0.0))
                leaving += pace[1] * (max(v1[i, j + 1, k], 0.0) + max(-v1[i, j, k], 0.0))
                leaving += pace[2] * (max(v2[i, j, k + 1], 0.0) + max(-v2[i, j, k], 0.0))
                total += factor * leaving
            most = max(most, total * inverse_phi[i, j, k])
    return most


@compiled
def transport_step(
    c: Array, g: Three, v: Three, pace: tuple[float, float, float], flow: bool, group: Three,
    inverse_phi: Array, rows: Array, scheme: int, dt: float, substeps: int, first: Array, rate: Array,
) -> None:  # fmt: skip
    """``substeps`` Heun steps of together ``dt`` on the concentration ``c``, in place."""
    h = dt / substeps
    for _ in range(substeps):
        transport_rate(c, g, v, pace, flow, group, rows, scheme, rate)
        for r in range(rows.shape[0]):
            i, j, a, b = rows[r]
            u, f, w, q = c[i, j, a:b], first[i, j, a:b], inverse_phi[i, j, a:b], rate[i, j, a:b]
            for k in range(u.size):
                f[k] = u[k] + h * w[k] * q[k]
        transport_rate(first, g, v, pace, flow, group, rows, scheme, rate)
        for r in range(rows.shape[0]):
            i, j, a, b = rows[r]
            u, f, w, q = c[i, j, a:b], first[i, j, a:b], inverse_phi[i, j, a:b], rate[i, j, a:b]
            for k in range(u.size):
                u[k] = 0.5 * (u[k] + f[k] + h * w[k] * q[k])
