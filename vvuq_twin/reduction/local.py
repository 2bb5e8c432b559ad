"""What the species do within a cell: exchange with plasma, first-order reactions, saturable binding and uptake.

The same equations as the full order's (:mod:`~vvuq_twin.physics.saturable`), as a rate and its Jacobian
on arrays of cells and members, in numpy or JAX.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Links(NamedTuple):
    """Saturable reactions, in the order of :class:`~vvuq_twin.physics.drug.Drug`'s.

    Parameters
    ----------
    top : tuple of array, shape (N, k)
        Binding: k_on over phi, L/(amount h); uptake: cells times v_max, amount per L of tissue and hour.
    half_in : tuple of array, shape (N, k)
        Binding: the capacity, amount per L of tissue; uptake: the amount per L of tissue at which the
        source is half saturated.
    half_out : tuple of array, shape (N, k)
        Uptake: the same of the target.
    """

    top: tuple[Any, ...]
    half_in: tuple[Any, ...]
    half_out: tuple[Any, ...]


class Local(NamedTuple):
    """Coefficients of k cells for N members; the amounts are per volume of tissue.

    Parameters
    ----------
    out : tuple of array, shape (N, k)
        What each moving species loses through walls and lymph, 1/h on the amount.
    gain : tuple of array, shape (N, k)
        1/h, times the species' plasma concentration.
    reactions : array, shape (N, L, s, s)
        1/h per tissue.
    label : array of int, shape (k,)
    links : Links
    """

    out: tuple[Any, ...]
    gain: tuple[Any, ...]
    reactions: Any
    label: Any
    links: Links


#: (source, target, whether it is binding) of each saturable reaction.
Pairs = tuple[tuple[int, int, bool], ...]


def rates(local: Local, pairs: Pairs, c: Any, plasma: Any) -> list[Any]:
    """Change of amounts c (s, N, k) at plasma concentrations (N, m); a list of s arrays (N, k), per h."""
    s = c.shape[0]
    found = []
    for i in range(s):
        total = 0.0
        for j in range(s):
            total = total + local.reactions[:, :, i, j][:, local.label] * c[j]
        if i < len(local.out):
            total = total - local.out[i] * c[i] + local.gain[i] * plasma[:, i, None]
        found.append(total)
    for q, (a, b, binds) in enumerate(pairs):
        top, first, second = local.links.top[q], local.links.half_in[q], local.links.half_out[q]
        if binds:
            flux = top * (first - c[b]) * c[a]
        else:
            flux = top * (c[a] / (c[a] + first) - c[b] / (c[b] + second))
        found[a] = found[a] - flux
        found[b] = found[b] + flux
    return found


def jacobian(local: Local, pairs: Pairs, c: Any) -> list[list[Any]]:
    """Derivatives of :func:`rates` by the amounts, s x s arrays (N, k)."""
    s = c.shape[0]
    found = [[local.reactions[:, :, i, j][:, local.label] + 0.0 * c[0] for j in range(s)] for i in range(s)]
    for i, out in enumerate(local.out):
        found[i][i] = found[i][i] - out
    for q, (a, b, binds) in enumerate(pairs):
        top, first, second = local.links.top[q], local.links.half_in[q], local.links.half_out[q]
        if binds:
            forth, back = top * (first - c[b]), top * c[a]
        else:
            forth, back = top * first / (c[a] + first) ** 2, top * second / (c[b] + second) ** 2
        found[a][a], found[b][a] = found[a][a] - forth, found[b][a] + forth
        found[a][b], found[b][b] = found[a][b] + back, found[b][b] - back
    return found


def drift(local: Local, slope: Any, c: Any) -> list[Any]:
    """Partial derivative of :func:`rates` in time, from that of the plasma concentrations (N, m)."""
    m = len(local.gain)
    return [local.gain[i] * slope[:, i, None] if i < m else 0.0 * c[0] for i in range(c.shape[0])]
