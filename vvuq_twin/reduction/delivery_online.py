"""The compiled part of a reduced delivery: one batch of members from parameters to amounts at the nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..physics.faces import harmonic
from ..physics.tissue import across_wall
from . import local as cells
from .backend import jax, jnp
from .delivery_case import DeliveryCase, DeliveryInputs, cell_links
from .delivery_numbers import SCORES
from .exchange import Vessels
from .expm import expm
from .flow import ReducedFlow
from .propagate import DIVERGED, NOT_FINITE, OK, TOO_STIFF
from .rosenbrock import STAGES, step
from .timegrid import Steps

if TYPE_CHECKING:
    from .delivery import ReducedDelivery

#: Beside the status codes of :mod:`~vvuq_twin.reduction.propagate`: a parameter that is negative, a schedule of another form.
BAD_PARAMETER, OTHER_SCHEDULE = 4, 5


class Nodes(NamedTuple):
    """The cells at which the kinetics are evaluated, k of them.

    Parameters
    ----------
    cell : array of int, shape (k,)
    label : array of int, shape (k,)
    vessels : Vessels
    phi : array, shape (k,)
    pressure : array, shape (k, r_p)
        Rows of the pressure's basis.
    inside : array, shape (k,)
        1 in the tumour, 0 elsewhere.
    """

    cell: Any
    label: Any
    vessels: Vessels
    phi: Any
    pressure: Any
    inside: Any


class Moved(NamedTuple):
    """Projected transport of one moving species, and what the projection leaves out at the nodes.

    Parameters
    ----------
    rows : array, shape (k, r)
        E: values at the nodes of the basis.
    lift : array, shape (r, k)
        L: coefficients from values at the nodes.
    diffusion : array, shape (G, r, r)
    convection : array, shape (c, r, r)
    spread_left : array, shape (G, k, r)
        The full order's diffusion of the basis at the nodes less the projected one's, for amounts.
    carried_left : array, shape (c, k, r)
        The same of the convection.
    """

    rows: Any
    lift: Any
    diffusion: Any
    convection: Any
    spread_left: Any
    carried_left: Any


def inputs_status(x: DeliveryInputs) -> Any:
    """Codes (N,): a number that is not finite, or negative where it must not be."""
    parts = [*x.fluid.values(), x.diffusivity, x.permeability, x.reflection, x.reactions, *x.links]
    parts += [x.plasma, x.readout, x.volume, x.unbound]
    n = x.volume.shape[0]
    finite, fine = jnp.ones(n, bool), x.volume > 0
    for part in parts:
        finite &= jnp.isfinite(part).reshape(n, -1).all(axis=1)
    positive = [x.fluid[key] for key in ("K", "Lp", "S", "LpL")]
    for part in (*positive, x.diffusivity, x.permeability, 1.0 - x.reflection, *x.links):
        fine &= (part >= 0).reshape(n, -1).all(axis=1)
    return jnp.where(~finite, NOT_FINITE, jnp.where(fine, OK, BAD_PARAMETER))


def node_kinetics(
    flow: ReducedFlow, nodes: Nodes, x: DeliveryInputs, pairs: cells.Pairs, pressure: Any, xp: Any
) -> cells.Local:
    """Coefficients of the local kinetics at the nodes from the reduced pressure (N, r_p)."""
    filtered, drained = flow.exchange(x.fluid, pressure, nodes.pressure, nodes.label, nodes.vessels, xp)
    return local_kinetics(nodes, x, pairs, filtered, drained, xp)


def local_kinetics(
    nodes: Nodes, x: DeliveryInputs, pairs: cells.Pairs, filtered: Any, drained: Any, xp: Any
) -> cells.Local:
    """The same from the fluid filtered and drained, (N, k)."""
    lymph = xp.maximum(drained, 0.0)
    surface = x.fluid["S"][:, nodes.label] * nodes.vessels.surface(x.fluid[SCORES], xp)
    out, gain = [], []
    for s in range(x.diffusivity.shape[1]):
        drag = filtered * (1.0 - x.reflection[:, s][:, nodes.label])
        enter, leave = across_wall(x.permeability[:, s][:, nodes.label] * surface, drag, xp)
        gain.append(enter)
        out.append((leave + lymph) / nodes.phi)
    links = cell_links(x, pairs, nodes.label, nodes.phi)
    return cells.Local(tuple(out), tuple(gain), x.reactions, nodes.label, links)


def run_members(
    model: ReducedDelivery,
    case: DeliveryCase,
    safe: np.ndarray,
    halvings: int,
    estimate: bool,
    looped: bool,
    theta: Any,
    steps: Steps,
) -> tuple[Any, ...]:
    """Amounts (N, T, s, k) and status (N,) of members theta (N, p), and the indicator (N, T) if it is wanted."""
    given = case.inputs(theta, jnp)
    status = inputs_status(given)
    # the plasma's exponentials are squared for four standard deviations: twice that still has ten digits
    fast = jnp.abs(given.plasma).sum(axis=1).max(axis=1) * steps.interval.max() > 2.0**halvings
    status = jnp.where((status == OK) & fast, TOO_STIFF, status)
    x = case.inputs(jnp.where((status == OK)[:, None], theta, safe), jnp)
    pressure = model.flow.solve(x.fluid, jnp)
    local = node_kinetics(model.flow, model.nodes, x, case.pairs, pressure, jnp)
    speed = model.flow.parts(x.fluid, pressure, jnp)
    conductance = harmonic(x.diffusivity, model.groups, jnp)
    moves, left = [], []
    for s, moved in enumerate(model.moved):
        spread = jnp.einsum("ng,gij->nij", conductance[:, s], moved.diffusion)
        carried = jnp.einsum("nc,cij->nij", speed, moved.convection)
        moves.append(jnp.einsum("ki,nij->nkj", model.nodes.phi[:, None] * moved.rows, spread + carried))
        if estimate:
            lost = jnp.einsum("ng,gkr->nkr", conductance[:, s], moved.spread_left)
            left.append(lost + jnp.einsum("nc,ckr->nkr", speed, moved.carried_left))
    seen, slope = _plasma(x, steps, halvings)
    amount, status = _advance(model, case, local, moves, seen, slope, steps, status, looped)
    picked = jnp.concatenate([amount, jnp.zeros_like(amount[:1])])[steps.output]
    found = jnp.transpose(picked, (2, 0, 1, 3))
    return (found, status, _indicator(model, amount, left, steps)) if estimate else (found, status)


def _indicator(model: ReducedDelivery, states: Any, left: list[Any], steps: Steps) -> Any:
    """See :meth:`ReducedDelivery.indicate`; from states (S, s, N, k) and what is left out (N, k, r) of each species."""
    inside = model.nodes.inside

    def norm(values: Any) -> Any:
        return jnp.sqrt((inside * values * values).sum(axis=-1))

    def one(c: Any) -> tuple[Any, Any]:
        lost = jnp.zeros_like(c[0])
        for s, moved in enumerate(model.moved):
            lost = lost + jnp.einsum("nkr,nr->nk", left[s], (c[s] / model.nodes.phi) @ moved.lift.T)
        free = c[0] / model.nodes.phi
        gap = free - (free @ model.moved[0].lift.T) @ model.moved[0].rows.T
        tiny = 1e-300
        return norm(lost) / (norm(c.sum(axis=0)) + tiny), norm(gap) / (norm(free) + tiny)

    rate, gap = jax.lax.map(one, states)
    added = jnp.cumsum(rate * steps.interval[steps.which][:, None], axis=0) + gap
    added = jnp.concatenate([added, jnp.zeros_like(added[:1])])
    return added[steps.output].T


def _plasma(x: DeliveryInputs, steps: Steps, halvings: int) -> tuple[Any, Any]:
    """Plasma concentrations of every stage (S, 4, N, m), and their slopes at every step's start (S, N, m)."""
    p = x.plasma.shape[-1]
    spans = steps.interval[:, None] * np.array([*STAGES[1:3], 1.0])
    flows = expm(x.plasma[:, None, None] * spans[None, :, :, None, None], halvings)
    flows = jnp.transpose(flows, (1, 2, 0, 3, 4))  # (U, 3, N, p, p)

    def one(state: Any, at: tuple[Any, Any]) -> tuple[Any, tuple[Any, Any]]:
        which, jump = at
        state = state + jump
        later = jnp.einsum("anij,nj->ani", flows[which], state)
        every = jnp.stack([state, later[0], later[1], later[2]])
        seen = jnp.einsum("nmp,anp->anm", x.readout, every)
        slope = jnp.einsum("nmp,npq,nq->nm", x.readout, x.plasma, state)
        return later[2], (seen, slope)

    start = jnp.zeros((x.plasma.shape[0], p))
    _, found = jax.lax.scan(one, start, (steps.which, steps.jump))
    return found


def _advance(
    model: ReducedDelivery, case: DeliveryCase, local: cells.Local, moves: list[Any], seen: Any, slope: Any,
    steps: Steps, status: Any, looped: bool,
) -> tuple[Any, Any]:  # fmt: skip
    """Amounts at the nodes after every step, (S, s, N, k), and status."""
    phi, pairs = model.nodes.phi, case.pairs

    def move(c: Any) -> list[Any]:
        found = []
        for s, moved in enumerate(model.moved):
            y = (c[s] / phi) @ moved.lift.T
            found.append(jnp.einsum("nkr,nr->nk", moves[s], y))
        return found

    def advance(carry: tuple[Any, Any], at: tuple[Any, ...]) -> tuple[tuple[Any, Any], Any]:
        c, code = carry
        h, plasma, rise = at

        def rate(state: Any, stage: Any) -> Any:
            found = cells.rates(local, pairs, state, plasma[stage])
            for s, part in enumerate(move(state)):
                found[s] = found[s] + part
            return jnp.stack(found)

        drift = jnp.stack(cells.drift(local, rise, c))
        new = step(c, h, rate, cells.jacobian(local, pairs, c), drift, jnp, looped)
        within = (jnp.abs(new) <= model.limit).all(axis=(0, 2))
        code = jnp.where((code == OK) & ~within, DIVERGED, code)
        c = jnp.where((code == OK)[None, :, None], new, c)
        return (c, code), c

    start = jnp.zeros((case.drug.size, status.shape[0], len(phi)))
    (_, status), states = jax.lax.scan(advance, (start, status), (steps.interval[steps.which], seen, slope))
    return states, status
