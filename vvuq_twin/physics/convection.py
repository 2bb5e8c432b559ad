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
    per, zero, half, one = c.dtype.type(pace), c.dtype.type(0.0), c.dtype.type(0.5), c.dtype.type(1.0)
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
            s, low, high = v[k], below[k], above[k]
            forward = s >= 0.0
            # differences with the second neighbours first, then the choice: half the time of choosing values
            before = low - two_below[k] if open_below[k] > 0 else zero
            after = two_above[k] - high if open_above[k] > 0 else zero
            up = low if forward else high
            a, b = before if forward else after, high - low
            bends = a * b > 0.0
            both = a + b if bends else one
            rise = a * b / both if bends else 0.0
            rise = rise if forward else -rise
            out[k] = g[k] * (low - high) + per * s * (up + c.dtype.type(rise))


@compiled
def _next_run(rows: Array, r: int, depth: int) -> tuple[int, int, int]:
    """From row ``r`` on: the row after the run, and the run's first cell and its end in the plane."""
    plane, start, end = rows[r, 0], rows[r, 1] * depth + rows[r, 2], rows[r, 1] * depth + rows[r, 3]
    r += 1
    while r < rows.shape[0] and rows[r, 0] == plane:
        first, last = rows[r, 1] * depth + rows[r, 2], rows[r, 1] * depth + rows[r, 3]
        if first - end > GAP or last - start > RUN:
            break
        end = last
        r += 1
    return r, start, end


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
    low, flux = x[start:end], out[:n]
    _fluxes(flat, g[0].ravel(), v[0].ravel(), group[0].ravel(), at, wide, pace[0], scheme, flux)
    for k in range(n):
        above = flux[k]
        flux[k] = low[k] - above
        low[k] = above
    # along the rows a run's first lower face is closed: z[0] stays zero
    front, back, left, right = y[start:end], y[start + depth : end + depth], z[:n], z[1 : n + 1]
    _fluxes(flat, g[1].ravel(), v[1].ravel(), group[1].ravel(), at, depth, pace[1], scheme, back)
    _fluxes(flat, g[2].ravel(), v[2].ravel(), group[2].ravel(), at, 1, pace[2], scheme, right)
    for k in range(n):
        flux[k] += (front[k] - back[k]) + (left[k] - right[k])


@compiled
def _buffers(c: Array) -> tuple[Three, Array]:
    """What :func:`_run_rate` keeps, and a run's rate."""
    wide, depth = c.shape[1] * c.shape[2], c.shape[2]
    run = max(RUN, depth)
    kept = (np.zeros(wide, c.dtype), np.zeros(wide + depth, c.dtype), np.zeros(run + 1, c.dtype))
    return kept, np.zeros(run, c.dtype)


@compiled
def _plane(
    c: Array, g: Three, v: Three, pace: tuple[float, float, float], group: Three, rows: Array, r: int, scheme: int,
    inverse_phi: Array, h: float, kept: Three, rate: Array, out: Array, stage: int,
) -> int:  # fmt: skip
    """Advance the plane of row ``r``; returns the first row of the next plane.

    Stage 0 is the rate alone, ``out = L(c)``; 1 and 2 are Heun's, ``out = c + h L(c)/phi`` and the mean of
    that and what ``out`` was.
    """
    wide, depth = c.shape[1] * c.shape[2], c.shape[2]
    step, half = c.dtype.type(h), c.dtype.type(0.5)
    plane = rows[r, 0]
    kept[1][:] = 0.0
    while r < rows.shape[0] and rows[r, 0] == plane:
        r, start, end = _next_run(rows, r, depth)
        _run_rate(c, g, v, pace, group, plane, start, end, scheme, kept, rate)
        a, b = plane * wide + start, plane * wide + end
        f, w, o = c.ravel()[a:b], inverse_phi.ravel()[a:b], out.ravel()[a:b]
        if stage == 0:
            for k in range(o.size):
                o[k] = rate[k]
        elif stage == 1:
            for k in range(o.size):
                o[k] = f[k] + step * w[k] * rate[k]
        else:
            for k in range(o.size):
                o[k] = half * (o[k] + (f[k] + step * w[k] * rate[k]))
    return r


@compiled
def transport_rate(
    c: Array, g: Three, v: Three, pace: tuple[float, float, float], flow: bool, group: Three,
    rows: Array, scheme: int, out: Array,
) -> None:  # fmt: skip
    """``out = div(g grad c) - div(v c)``; ``v`` is zero at closed faces, ``pace`` one over the spacing."""
    kept, rate = _buffers(c)
    face, r = scheme if flow else STILL, 0
    while r < rows.shape[0]:
        r = _plane(c, g, v, pace, group, rows, r, face, c, 0.0, kept, rate, out, 0)


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
    """``substeps`` Heun steps of together ``dt`` on the concentration ``c``, in place; ``first`` is a work box.

    The second stage follows the first at a distance of two planes, which is as far as a limited value sees:
    the faces both need are then still in the cache.
    """
    h = dt / substeps
    kept, rate = _buffers(c)
    later, _ = _buffers(c)
    face, count = scheme if flow else STILL, rows.shape[0]
    for _ in range(substeps):
        ahead, behind = 0, 0
        while behind < count:
            if ahead < count and rows[ahead, 0] <= rows[behind, 0] + 2:
                ahead = _plane(
                    c, g, v, pace, group, rows, ahead, face, inverse_phi, h, kept, rate, first, 1
                )  # fmt: skip
            else:
                behind = _plane(
                    first, g, v, pace, group, rows, behind, face, inverse_phi, h, later, rate, c, 2
                )  # fmt: skip


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
