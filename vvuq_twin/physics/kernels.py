"""Compiled kernels on the bounding box: diffusion steps, logistic reaction, kill. One member at a time.

Arrays have the box shape of :class:`~vvuq_twin.physics.faces.Faces` (one closed cell on every side) and
hold zero outside the mask. ``g0, g1, g2`` are the face conductances over squared spacing (1/time) of the
face below each cell, zero where closed. ``rows`` lists the box's rows with active cells.
"""

from __future__ import annotations

import math

from .rowmath import Array, compiled, exp_row, log_row

#: Cellularity below this is set to zero.
TINY = 1e-200
#: Exponents below which the exponential's series to the eighth power is exact to round-off.
SMALL = 0.05


@compiled
def face_values(group: Array, conductance: Array, scale: float, out: Array) -> None:
    """``out = scale * conductance[group - 1]``, zero where the group is 0."""
    flat, g = out.ravel(), group.ravel()
    for i in range(flat.size):
        flat[i] = 0.0 if g[i] == 0 else scale * conductance[g[i] - 1]


@compiled
def face_products(
    group: Array, conductance: Array, scale: float, values: Array, stride: int, out: Array
) -> None:
    """:func:`face_values` times the harmonic mean of ``values`` in the two cells of each face.

    ``stride`` is the distance of the cell below in the flat box.
    """
    flat, g, u = out.ravel(), group.ravel(), values.ravel()
    for i in range(flat.size):
        if g[i] == 0:
            flat[i] = 0.0
        else:
            a, b = u[i - stride], u[i]
            flat[i] = scale * conductance[g[i] - 1] * (2.0 * a * b / (a + b))


@compiled
def _row_divergence(
    u: Array, g0: Array, g1: Array, g2: Array, i: int, j: int, a: int, b: int, out: Array
) -> None:
    """div(D grad u) of the cells a..b-1 of row (i, j) into out[:b-a].

    Rows are cut to views that start at 0 and each loop touches few arrays: so the compiler vectorises.
    """
    c = u[i, j, a:b]
    low, high, gl, gh = u[i - 1, j, a:b], u[i + 1, j, a:b], g0[i, j, a:b], g0[i + 1, j, a:b]
    for k in range(c.size):
        out[k] = gh[k] * (high[k] - c[k]) - gl[k] * (c[k] - low[k])
    low, high, gl, gh = u[i, j - 1, a:b], u[i, j + 1, a:b], g1[i, j, a:b], g1[i, j + 1, a:b]
    for k in range(c.size):
        out[k] += gh[k] * (high[k] - c[k]) - gl[k] * (c[k] - low[k])
    low, high, gl, gh = u[i, j, a - 1 : b - 1], u[i, j, a + 1 : b + 1], g2[i, j, a:b], g2[i, j, a + 1 : b + 1]
    for k in range(c.size):
        out[k] += gh[k] * (high[k] - c[k]) - gl[k] * (c[k] - low[k])


@compiled
def divergence(u: Array, g0: Array, g1: Array, g2: Array, rows: Array, out: Array) -> None:
    """``out = div(D grad u)`` on the active rows."""
    for r in range(rows.shape[0]):
        i, j, a, b = rows[r]
        _row_divergence(u, g0, g1, g2, i, j, a, b, out[i, j, a:b])


@compiled
def live_rows(u: Array, rows: Array, least: float, margin: int, lanes: int, ends: Array, out: Array) -> int:
    """The parts of the rows with a value of ``least`` or more within ``margin`` cells; how many they are.

    ``ends`` is work space of shape (2, box[0], box[1]), ``out`` like ``rows``. Parts begin and end a whole number
    of ``lanes`` from their row's first cell.
    """
    ends[0], ends[1] = u.shape[2], -1
    for r in range(rows.shape[0]):
        i, j, a, b = rows[r]
        c = u[i, j, a:b]
        first, last = 0, c.size - 1
        while first < c.size and c[first] < least:
            first += 1
        if first == c.size:
            continue
        while c[last] < least:
            last -= 1
        # a row of the box may be in several pieces
        ends[0, i, j], ends[1, i, j] = min(ends[0, i, j], a + first), max(ends[1, i, j], a + last)
    count = 0
    for r in range(rows.shape[0]):
        i, j, a, b = rows[r]
        low, high = u.shape[2], -1
        for p in range(max(i - margin, 0), min(i + margin + 1, u.shape[0])):
            for q in range(max(j - margin, 0), min(j + margin + 1, u.shape[1])):
                low, high = min(low, ends[0, p, q]), max(high, ends[1, p, q])
        low, high = max(low - margin, a), min(high + margin + 1, b)
        if low < high:
            out[count, 0], out[count, 1] = i, j
            out[count, 2] = a + (low - a) // lanes * lanes
            out[count, 3] = min(a + -(-(high - a) // lanes) * lanes, b)
            count += 1
    return count


@compiled
def spectral_bound(g0: Array, g1: Array, g2: Array, rows: Array) -> float:
    """Gershgorin bound on the spectral radius of the diffusion operator, 1/time."""
    most = 0.0
    for r in range(rows.shape[0]):
        i, j, a, b = rows[r]
        for k in range(a, b):
            total = (
                g0[i, j, k] + g0[i + 1, j, k] + g1[i, j, k] + g1[i, j + 1, k] + g2[i, j, k] + g2[i, j, k + 1]
            )
            if total > most:
                most = total
    return 2.0 * most


@compiled
def stages(dt: float, bound: float) -> int:
    """Stages of a Runge-Kutta-Legendre step of length ``dt``; 2 within the explicit limit, else odd."""
    if dt * bound <= 2.0:
        return 2
    s = math.ceil(0.5 * (-1.0 + math.sqrt(9.0 + 8.0 * dt * bound)))
    return s + 1 if s % 2 == 0 else s


@compiled
def heun(u: Array, g0: Array, g1: Array, g2: Array, rows: Array, dt: float, first: Array, tmp: Array) -> None:
    """``u <- (I + dt A + dt^2 A^2 / 2) u``, two strong-stability-preserving Euler stages."""
    for r in range(rows.shape[0]):
        i, j, a, b = rows[r]
        _row_divergence(u, g0, g1, g2, i, j, a, b, tmp)
        c, f = u[i, j, a:b], first[i, j, a:b]
        for k in range(c.size):
            f[k] = c[k] + dt * tmp[k]
    for r in range(rows.shape[0]):
        i, j, a, b = rows[r]
        _row_divergence(first, g0, g1, g2, i, j, a, b, tmp)
        c, f = u[i, j, a:b], first[i, j, a:b]
        for k in range(c.size):
            c[k] = 0.5 * (c[k] + (f[k] + dt * tmp[k]))


@compiled
def _b(j: int) -> float:
    """Legendre coefficient of the RKL2 scheme."""
    return 1.0 / 3.0 if j < 2 else (j * j + j - 2.0) / (2.0 * j * (j + 1.0))


@compiled
def legendre(
    u: Array, g0: Array, g1: Array, g2: Array, rows: Array, dt: float, s: int, work: Array, tmp: Array
) -> None:
    """RKL2 super-time-stepping with ``s`` stages (Meyer, Balsara & Aslam 2014, JCP 257, eq. 16-17).

    Second order, stable for ``dt <= (s^2 + s - 2) / (2 * spectral bound)``.
    ``work`` is four boxes: dt A u, and three successive stages.
    """
    slope = work[0]
    w1 = 4.0 / (s * s + s - 2.0)
    one = _b(1) * w1
    for r in range(rows.shape[0]):
        i, j, a, b = rows[r]
        _row_divergence(u, g0, g1, g2, i, j, a, b, tmp)
        c, s0, o, l = u[i, j, a:b], slope[i, j, a:b], work[1, i, j, a:b], work[2, i, j, a:b]
        for k in range(c.size):
            s0[k] = dt * tmp[k]
            o[k] = c[k]
            l[k] = c[k] + one * s0[k]
    older, last, new = 1, 2, 3
    for stage in range(2, s + 1):
        mu = (2.0 * stage - 1.0) / stage * _b(stage) / _b(stage - 1)
        nu = -(stage - 1.0) / stage * _b(stage) / _b(stage - 2)
        step = mu * w1
        gamma = -(1.0 - _b(stage - 1)) * step
        rest = 1.0 - mu - nu
        for r in range(rows.shape[0]):
            i, j, a, b = rows[r]
            _row_divergence(work[last], g0, g1, g2, i, j, a, b, tmp)
            c, s0 = u[i, j, a:b], slope[i, j, a:b]
            o, l, n = work[older, i, j, a:b], work[last, i, j, a:b], work[new, i, j, a:b]
            for k in range(c.size):
                n[k] = rest * c[k] + mu * l[k] + gamma * s0[k]
            for k in range(c.size):
                n[k] += nu * o[k] + step * dt * tmp[k]
        older, last, new = last, new, older
    for r in range(rows.shape[0]):
        i, j, a, b = rows[r]
        c, l = u[i, j, a:b], work[last, i, j, a:b]
        for k in range(c.size):
            c[k] = l[k]


@compiled
def diffuse(
    u: Array, g0: Array, g1: Array, g2: Array, rows: Array, dt: float, bound: float, work: Array, tmp: Array
) -> None:
    """One diffusion step of length ``dt``: :func:`heun` where it is stable, :func:`legendre` beyond."""
    if dt <= 0.0 or bound <= 0.0:
        return
    s = stages(dt, bound)
    if s == 2:
        heun(u, g0, g1, g2, rows, dt, work[0], tmp)
    else:
        legendre(u, g0, g1, g2, rows, dt, s, work, tmp)


@compiled
def moebius(u: Array, rows: Array, p: float, q: float) -> None:
    """``u <- p u / (1 + q u)``: any sequence of logistic growth and uniform kill is of this form."""
    for r in range(rows.shape[0]):
        i, j, a, b = rows[r]
        c = u[i, j, a:b]
        for k in range(c.size):
            new = p * c[k] / (1.0 + q * c[k])
            # arithmetic on subnormal numbers is a hundred times slower: far from the tumour nothing is nothing
            c[k] = 0.0 if abs(new) < TINY else new


@compiled
def kill(
    u: Array, rows: Array, strength: float, weight: Array, offset: float, slope: float, scratch: Array
) -> None:
    """``u <- u exp(-strength (offset + slope weight))``; ``scratch`` is four work rows."""
    e, work = scratch[0], scratch[1]
    for r in range(rows.shape[0]):
        i, j, a, b = rows[r]
        c, w = u[i, j, a:b], weight[i, j, a:b]
        most = 0.0
        for k in range(c.size):
            e[k] = -strength * (offset + slope * w[k])
            most = max(most, abs(e[k]))
        if most < SMALL:
            for k in range(c.size):
                x = e[k]
                high = 1.0 / 24 + x * (1.0 / 120 + x * (1.0 / 720 + x * (1.0 / 5040 + x / 40320)))
                e[k] = 1.0 + x * (1.0 + x * (0.5 + x * (1.0 / 6 + x * high)))
        else:
            exp_row(e, c.size, work)
        for k in range(c.size):
            new = c[k] * e[k]
            c[k] = 0.0 if abs(new) < TINY else new


@compiled
def grow(u: Array, rows: Array, amount: float, factor: Array, exponent: float, scratch: Array) -> None:
    """Exact generalised logistic growth, ``du/dt = (k f / nu) u (1 - u^nu)`` over ``amount = k dt``.

    ``m = u^nu`` obeys the plain logistic equation (Richards 1959), so that
    ``u <- u exp((k f dt - log(1 + m (e^{k f dt} - 1))) / nu)``; ``factor`` is the map f, ``exponent`` nu.
    nu = 0 is Gompertz's law, ``du/dt = -k f u log u``: ``u <- u^(e^{-k f dt})``.
    """
    e, m, gain, work = scratch[0], scratch[1], scratch[2], scratch[3]
    for r in range(rows.shape[0]):
        i, j, a, b = rows[r]
        c, f = u[i, j, a:b], factor[i, j, a:b]
        for k in range(c.size):
            gain[k] = amount * f[k]
            e[k] = -gain[k] if exponent == 0.0 else gain[k]
        exp_row(e, c.size, work)
        if exponent == 0.0:
            for k in range(c.size):
                m[k] = max(c[k], TINY)
            log_row(m, c.size, work)
            for k in range(c.size):
                m[k] *= e[k]
            exp_row(m, c.size, work)
            for k in range(c.size):
                c[k] = m[k] if c[k] > TINY else 0.0
        elif exponent == 1.0:
            for k in range(c.size):
                new = c[k] * e[k] / (1.0 + c[k] * (e[k] - 1.0))
                c[k] = 0.0 if abs(new) < TINY else new
        else:
            for k in range(c.size):
                m[k] = c[k]
            log_row(m, c.size, work)
            for k in range(c.size):
                m[k] *= exponent
            exp_row(m, c.size, work)
            for k in range(c.size):
                m[k] = 1.0 + m[k] * (e[k] - 1.0)
            log_row(m, c.size, work)
            for k in range(c.size):
                m[k] = (gain[k] - m[k]) / exponent
            exp_row(m, c.size, work)
            for k in range(c.size):
                new = c[k] * m[k]
                c[k] = 0.0 if abs(new) < TINY else new
