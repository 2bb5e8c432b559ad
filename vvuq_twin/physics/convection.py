"""Compiled transport sub-step: diffusion and convection of the interstitial concentration.

``phi dc/dt = div(phi_f D grad c) - div(v c)`` in finite volumes with closed mask edges, by Heun's
method (two Euler stages, strong-stability preserving): conservative, and monotone with upwind or
van Leer limited face values within the step bound of :func:`transport_bound`.

A sweep goes through the box in runs of neighbouring rows, taken as one vector each: the flux through the
upper face of every cell is computed once along each axis, and that through the lower face is the one kept
from the cell below. Inactive cells between the rows have closed faces only: nothing moves there.
"""

from __future__ import annotations

import numpy as np

from .rowmath import Array, compiled

#: One array per axis.
Three = tuple[Array, Array, Array]

#: Face value of the convected concentration.
UPWIND, VAN_LEER, CENTRAL = 0, 1, 2
#: Diffusion alone.
STILL = -1

#: Cells of a run: enough that starting its loops costs nothing, few enough to stay in the first cache.
RUN = 1024
#: Inactive cells between two rows that are rather computed than starting another run.
GAP = 64


@compiled
def _fluxes(
    c: Array, conductance: Array, speed: Array, group: Array, at: int, step: int, pace: float, scheme: int,
    out: Array,
) -> None:  # fmt: skip
    """Flux through the upper face, ``step`` further, of every cell of a run that starts ``at`` in the flat box.

    Limited values are van Leer's (1974), upwind where there is no second upstream cell. The loops have no
    branch, so that the compiler vectorises them.
    """
    n = out.size
    # of the fields' own type: a double constant would turn every float32 into a double and back
    per, half, one = c.dtype.type(pace), c.dtype.type(0.5), c.dtype.type(1.0)
    up_face = at + step
    below, above, g = c[at : at + n], c[up_face : up_face + n], conductance[up_face : up_face + n]
    if scheme == -1:
        for k in range(n):
            out[k] = g[k] * (below[k] - above[k])
        return
    v = speed[up_face : up_face + n]
    if scheme == 0:
        for k in range(n):
            s = v[k]
            out[k] = g[k] * (below[k] - above[k]) + per * s * (below[k] if s >= 0.0 else above[k])
    elif scheme == 2:
        for k in range(n):
            out[k] = g[k] * (below[k] - above[k]) + per * v[k] * half * (below[k] + above[k])
    else:
        # where the second neighbour is off the box the face between is closed: any cell will do
        far = at + 2 * step if at + 2 * step + n <= c.size else up_face
        two_below, two_above = c[at - step : at - step + n], c[far : far + n]
        open_below, open_above = group[at : at + n], group[far : far + n]
        for k in range(n):
            s = v[k]
            forward = s >= 0.0
            up = below[k] if forward else above[k]
            down = above[k] if forward else below[k]
            beyond = two_below[k] if forward else two_above[k]
            known = open_below[k] if forward else open_above[k]
            a, b = up - beyond, down - up
            bends = (a * b > 0.0) & (known > 0)
            both = a + b if bends else one
            rise = a * b / both if bends else 0.0
            out[k] = g[k] * (below[k] - above[k]) + per * s * (up + c.dtype.type(rise))


@compiled
def _next_run(rows: Array, r: int, depth: int) -> tuple[int, int, int, int]:
    """From row ``r`` on: the row after the run, its plane, its first cell and its end in the plane."""
    plane, start, end = rows[r, 0], rows[r, 1] * depth + rows[r, 2], rows[r, 1] * depth + rows[r, 3]
    r += 1
    while r < rows.shape[0] and rows[r, 0] == plane:
        first, last = rows[r, 1] * depth + rows[r, 2], rows[r, 1] * depth + rows[r, 3]
        if first - end > GAP or last - start > RUN:
            break
        end = last
        r += 1
    return r, plane, start, end


@compiled
def _run_rate(
    c: Array, g: Three, v: Three, pace: tuple[float, float, float], group: Three, plane: int, start: int, end: int,
    scheme: int, kept: Three, out: Array,
) -> None:  # fmt: skip
    """``out = div(g grad c) - div(v c)`` of the cells start..end-1 of a plane.

    ``kept`` are the fluxes through the faces below along each axis: of a plane, of a plane (one row longer),
    of a run (one cell longer). They are zero at faces that no run has reached, for these are closed.
    """
    depth = c.shape[2]
    wide = c.shape[1] * depth
    at, n = plane * wide + start, end - start
    flat = c.ravel()
    x, y, z = kept
    low, high = x[start:end], z[1 : n + 1]
    _fluxes(flat, g[0].ravel(), v[0].ravel(), group[0].ravel(), at, wide, pace[0], scheme, high)
    for k in range(n):
        out[k] = low[k] - high[k]
    for k in range(n):
        low[k] = high[k]
    low, high = y[start:end], y[start + depth : end + depth]
    _fluxes(flat, g[1].ravel(), v[1].ravel(), group[1].ravel(), at, depth, pace[1], scheme, high)
    for k in range(n):
        out[k] += low[k] - high[k]
    # along the rows a run's first lower face is closed: z[0] stays zero
    low, high = z[:n], z[1 : n + 1]
    _fluxes(flat, g[2].ravel(), v[2].ravel(), group[2].ravel(), at, 1, pace[2], scheme, high)
    for k in range(n):
        out[k] += low[k] - high[k]


@compiled
def _buffers(c: Array) -> tuple[Three, Array]:
    """What :func:`_run_rate` keeps, and a run's rate."""
    wide, depth = c.shape[1] * c.shape[2], c.shape[2]
    run = max(RUN, depth)
    kept = (np.zeros(wide, c.dtype), np.zeros(wide + depth, c.dtype), np.zeros(run + 1, c.dtype))
    return kept, np.zeros(run, c.dtype)


@compiled
def _stage(
    c: Array, g: Three, v: Three, pace: tuple[float, float, float], group: Three, rows: Array, scheme: int,
    inverse_phi: Array, h: float, kept: Three, rate: Array, old: Array, out: Array, last: bool,
) -> None:  # fmt: skip
    """Heun's stages: ``out = c + h w L(c)``, the last averaged with ``old``: ``out = (old + c + h w L(c))/2``."""
    wide, depth = c.shape[1] * c.shape[2], c.shape[2]
    step, half = c.dtype.type(h), c.dtype.type(0.5)
    r, before = 0, -1
    while r < rows.shape[0]:
        r, plane, start, end = _next_run(rows, r, depth)
        if plane != before:
            kept[1][:] = 0.0
            before = plane
        _run_rate(c, g, v, pace, group, plane, start, end, scheme, kept, rate)
        a, b = plane * wide + start, plane * wide + end
        u, f, w, o = old.ravel()[a:b], c.ravel()[a:b], inverse_phi.ravel()[a:b], out.ravel()[a:b]
        if last:
            for k in range(o.size):
                o[k] = half * (u[k] + (f[k] + step * w[k] * rate[k]))
        else:
            for k in range(o.size):
                o[k] = f[k] + step * w[k] * rate[k]


@compiled
def transport_rate(
    c: Array, g: Three, v: Three, pace: tuple[float, float, float], flow: bool, group: Three,
    rows: Array, scheme: int, out: Array,
) -> None:  # fmt: skip
    """``out = div(g grad c) - div(v c)``; ``v`` is zero at closed faces, ``pace`` one over the spacing."""
    wide, depth = c.shape[1] * c.shape[2], c.shape[2]
    kept, rate = _buffers(c)
    r, before = 0, -1
    while r < rows.shape[0]:
        r, plane, start, end = _next_run(rows, r, depth)
        if plane != before:
            kept[1][:] = 0.0
            before = plane
        _run_rate(c, g, v, pace, group, plane, start, end, scheme if flow else STILL, kept, rate)
        o = out.ravel()[plane * wide + start : plane * wide + end]
        for k in range(o.size):
            o[k] = rate[k]


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
    inverse_phi: Array, rows: Array, scheme: int, dt: float, substeps: int, first: Array,
) -> None:  # fmt: skip
    """``substeps`` Heun steps of together ``dt`` on the concentration ``c``, in place; ``first`` is a work box."""
    h = dt / substeps
    kept, rate = _buffers(c)
    face = scheme if flow else STILL
    for _ in range(substeps):
        _stage(c, g, v, pace, group, rows, face, inverse_phi, h, kept, rate, c, first, False)
        _stage(first, g, v, pace, group, rows, face, inverse_phi, h, kept, rate, c, c, True)


@compiled
def concentrate(amount: Array, phi: Array, place: Array, flat: Array) -> None:
    """Amounts per volume of tissue (n,) to concentrations in the flat box."""
    for k in range(place.size):
        flat[place[k]] = amount[k] / phi[k]


@compiled
def collect(flat: Array, phi: Array, place: Array, amount: Array) -> None:
    """Concentrations in the flat box to amounts per volume of tissue (n,)."""
    for k in range(place.size):
        amount[k] = flat[place[k]] * phi[k]
