"""Local kinetics with saturable binding and uptake: positive, conservative, of second order, stiffly stable.

Saturable rates are written as first-order rates that depend on the state: binding as
``[k_on (B_max - C_b)/phi] C``, uptake as ``[cells v_max/(c + k_in)/phi] C`` one way and
``[v_max/(q + k_out)] C_i`` the other. With the rates frozen the local system is linear with off-diagonal
rates that are not negative, so its exponential (and that of its integrals) is positive and moves drug
without making any. The rates are frozen at a predicted middle of the step (the exponential midpoint rule,
Hochbruck & Ostermann 2010, sec. 2.4), and a step is halved until no rate that matters changes much over its
first half. In stiff kinetics the error is about in proportion to that tolerance. The linear limits (receptors far from full, uptake far from saturation) are exact.
"""

from __future__ import annotations

import numpy as np

from .rowmath import Array, compiled
from .smallexp import small_phi

#: A splitting step is divided into at most this many parts, a power of two.
PARTS = 512
#: Kind of a saturable reaction.
BINDING, UPTAKE = 0, 1


@compiled
def _frozen(
    c: Array,
    kind: Array,
    source: Array,
    target: Array,
    value: Array,
    cells: float,
    phi: float,
    forth: Array,
    back: Array,
) -> None:
    """First-order rates of the saturable reactions at the amounts ``c``; ``value`` is (q, 4)."""
    for q in range(kind.size):
        a, b = c[source[q]], c[target[q]]
        if kind[q] == 0:
            forth[q] = value[q, 0] * max(value[q, 1] - b, 0.0) / phi
            back[q] = 0.0
        else:
            there = cells if cells > 0.0 else value[q, 3]
            forth[q] = there * value[q, 0] / (a / phi + value[q, 1]) / phi
            back[q] = value[q, 0] / (b / there + value[q, 2]) if there > 0.0 else 0.0


@compiled
def _assemble(
    reactions: Array, out_rate: Array, source: Array, target: Array, forth: Array, back: Array, a: Array
) -> None:
    """The local rate matrix with the saturable rates frozen."""
    s = reactions.shape[0]
    for i in range(s):
        for j in range(s):
            a[i, j] = reactions[i, j]
    for i in range(out_rate.size):
        a[i, i] -= out_rate[i]
    for q in range(source.size):
        i, j = source[q], target[q]
        a[i, i] -= forth[q]
        a[j, i] += forth[q]
        a[j, j] -= back[q]
        a[i, j] += back[q]


@compiled
def saturable_step(
    species: Array, integrals: Array, moved: Array, out_rate: Array, gain: Array, supply: Array, reactions: Array,
    which: Array, phi: Array, cells: Array, kind: Array, source: Array, target: Array, value: Array, label: Array,
    courses: Array, dt: float, change: float,
) -> int:  # fmt: skip
    """Advance every voxel by ``dt``.

    Parameters
    ----------
    species, integrals : ndarray, shape (n, s)
        In place.
    moved : ndarray, shape (n, q, 2)
        Amount that each saturable reaction has moved forth and back so far, added to.
    out_rate, gain : ndarray, shape (n, m)
    supply : ndarray, shape (m, n) or (0, 0)
    reactions : ndarray, shape (L, s, s)
    which, label : ndarray of int, shape (n,)
        Matrix of reactions, and row of ``value``, of each voxel.
    phi : ndarray, shape (n,)
    cells : ndarray, shape (n,) or (0,)
    kind, source, target : ndarray of int, shape (q,)
    value : ndarray, shape (L, q, 4)
    courses : ndarray, shape (PARTS + 1, m)
        Time integral of each moving species' plasma concentration from the start of the step.
    dt : float
    change : float
        Largest relative change of a frozen rate over half a part of the step.

    Returns
    -------
    int
        Parts taken in all voxels together.
    """
    n, s = species.shape
    m = gain.shape[1]
    a, e = np.empty((s, s)), np.empty((s, s))
    p1, p2, work = np.empty((s, s)), np.empty((s, s)), np.empty((2, s, s))
    q = kind.size
    forth, back = np.empty(q), np.empty(q)
    forth2, back2 = np.empty(q), np.empty(q)
    b, c, middle, z = np.zeros(s), np.empty(s), np.empty(s), np.empty(s)
    taken = 0
    for v in range(n):
        r, par = reactions[which[v]], value[label[v]]
        there = cells[v] if cells.size > 0 else 0.0
        for i in range(s):
            c[i] = species[v, i]
        at, size = 0, PARTS
        while at < PARTS:
            while at % size != 0:
                size //= 2
            _frozen(c, kind, source, target, par, there, phi[v], forth, back)
            while True:
                h = dt * size / PARTS
                for i in range(m):
                    b[i] = gain[v, i] * (courses[at + size, i] - courses[at, i]) / h
                    if supply.size > 0:
                        b[i] += supply[i, v]
                _assemble(r, out_rate[v], source, target, forth, back, a)
                for i in range(s):
                    for j in range(s):
                        a[i, j] *= 0.5 * h
                small_phi(a, e, p1, p2, work)
                for i in range(s):
                    total = 0.0
                    for j in range(s):
                        total += e[i, j] * c[j] + 0.5 * h * p1[i, j] * b[j]
                    middle[i] = total
                _frozen(middle, kind, source, target, par, there, phi[v], forth2, back2)
                worst = 0.0
                for k in range(q):
                    worst = max(worst, abs(forth2[k] - forth[k]) * h / (1.0 + forth[k] * h))
                    worst = max(worst, abs(back2[k] - back[k]) * h / (1.0 + back[k] * h))
                if worst <= change or size == 1:
                    break
                size //= 2
            _assemble(r, out_rate[v], source, target, forth2, back2, a)
            for i in range(s):
                for j in range(s):
                    a[i, j] *= h
            small_phi(a, e, p1, p2, work)
            for i in range(s):
                total, new = 0.0, 0.0
                for j in range(s):
                    total += h * p1[i, j] * c[j] + h * h * p2[i, j] * b[j]
                    new += e[i, j] * c[j] + h * p1[i, j] * b[j]
                z[i], middle[i] = total, new
            for i in range(s):
                # the amount from what the ledger counts, unless that would be the difference of large numbers
                total, gross = c[i] + h * b[i], c[i] + h * b[i]
                for j in range(s):
                    term = a[i, j] / h * z[j]
                    total += term
                    gross += abs(term)
                if total > 1e-3 * gross:
                    middle[i] = total
            for i in range(s):
                c[i] = middle[i]
                integrals[v, i] += z[i]
            for k in range(q):
                moved[v, k, 0] += forth2[k] * z[source[k]]
                moved[v, k, 1] += back2[k] * z[target[k]]
            at += size
            taken += 1
            if size < PARTS and worst < 0.25 * change:
                size *= 2
        for i in range(s):
            species[v, i] = c[i]
    return taken
