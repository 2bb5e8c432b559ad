"""The reduced order of a drug's delivery: transport projected, local kinetics at chosen cells.

With ``C_s = phi B_s y_s`` for the moving species (``phi^(1/2) B_s`` orthonormal: a POD basis in the mass-weighted
inner product of the interstitial concentration), diffusion and upwind convection are projected as in
:mod:`~vvuq_twin.reduction.transport`: ``B^T M B``, affine in D per pair of tissues and in the interpolated flow
(:mod:`~vvuq_twin.reduction.flow`). What happens within a cell (exchange with solvent drag, first-order reactions,
saturable uptake) is neither affine nor linear, and stiff; it is hyper-reduced by empirical interpolation with the
state's own basis: it is evaluated at k cells alone, the nodes, and the field follows from them,

    dC_s/dt = phi E_s A_s(theta) L_s (C_s / phi) + kinetics(C_1, ..., C_s; plasma),     E_s = rows of B_s at the nodes,

L_s the (least-squares) inverse of E_s. The unknowns are thus the amounts of all species at the nodes: each
node keeps the full order's kinetics in every detail, gain and back rates with the exact Patlak function of the
reduced pressure there, fast equilibria and positivity included; only transport and reconstruction know of the basis. Time is
integrated by ROS34PW2 (:mod:`~vvuq_twin.reduction.rosenbrock`), plasma exactly by matrix exponentials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..domain.errors import BadInput
from ..kinetics.plasma import Dose
from ..physics.faces import harmonic
from ..physics.tissue import across_wall
from . import local as cells
from .backend import jax, jnp
from .delivery_case import DeliveryCase, DeliveryInputs, cell_links
from .expm import expm, squarings
from .flow import ReducedFlow
from .propagate import DIVERGED, NOT_FINITE, OK
from .rosenbrock import STAGES, step
from .timegrid import TimeGrid

#: Status of a member with a parameter that is negative, beside those of :mod:`~vvuq_twin.reduction.propagate`.
BAD_PARAMETER = 4


class Nodes(NamedTuple):
    """The cells at which the kinetics are evaluated, k of them.

    Parameters
    ----------
    cell : array of int, shape (k,)
    label : array of int, shape (k,)
    relative : array, shape (k,)
        Relative vessel surface.
    phi : array, shape (k,)
    pressure : array, shape (k, r_p)
        Rows of the pressure's basis.
    inside : array, shape (k,)
        1 in the tumour, 0 elsewhere.
    """

    cell: Any
    label: Any
    relative: Any
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


@dataclass(frozen=True)
class ReducedDelivery:
    """A reduced model of one agent at one site.

    Parameters
    ----------
    flow : ReducedFlow
    nodes : Nodes
    moved : tuple of Moved
        Of the moving species.
    bases : tuple of ndarray, shape (n, r_s)
        Of all species: interstitial concentrations of those that move, amounts of the others.
    lifts : tuple of ndarray, shape (r_s, k)
        Coefficients from concentrations (or amounts) at the nodes.
    groups : tuple of (int, int)
        Pairs of tissues of the face groups.
    grid : TimeGrid
    limit : float
        A member with an amount beyond this is stopped where it was, with status ``DIVERGED``.
    phi : ndarray, shape (n,)
    times : ndarray, shape (T,)
        Output times, hours.
    doses : tuple of Dose
    errors : dict
        From the validation.
    """

    flow: ReducedFlow
    nodes: Nodes
    moved: tuple[Moved, ...]
    bases: tuple[np.ndarray, ...]
    lifts: tuple[np.ndarray, ...]
    groups: tuple[tuple[int, int], ...]
    grid: TimeGrid
    limit: float
    phi: np.ndarray
    times: np.ndarray
    doses: tuple[Dose, ...]
    errors: dict[str, Any] = field(default_factory=dict)
    _programs: dict[tuple[int, bool], tuple[DeliveryCase, Callable[[Any], Any]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def rank(self) -> int:
        """Modes of the free drug."""
        return int(self.bases[0].shape[1])

    def run(self, case: DeliveryCase, theta: Any, xp: Any = np) -> tuple[Any, Any]:
        """Amounts of all species at the nodes and the output times.

        Parameters
        ----------
        case : DeliveryCase
            With the doses and times that the model was built for.
        theta : array, shape (N, p)
        xp : module
            jax.numpy inside a traced function; numpy gives numpy arrays back.

        Returns
        -------
        amount : array, shape (N, T, s, k)
            Finite for every member; zero for one that could not start.
        status : array of int, shape (N,)
        """
        amount, status = self._program(case, False)(jnp.asarray(theta, dtype=float))
        if xp is np:
            return np.asarray(amount), np.asarray(status)
        return amount, status

    def indicate(self, case: DeliveryCase, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same with an indicator (N, T) of the relative error inside the tumour, not calibrated.

        At a node the kinetics are the full order's, so the full order's residual there is what the projection leaves
        out of the transport. Over the amount of all species and added up over time it is one part of the
        indicator, the part of the free drug at the nodes that the basis does not span the other.

        Returns
        -------
        amount, status, indicator
        """
        amount, status, indicator = self._program(case, True)(jnp.asarray(theta, dtype=float))
        return np.asarray(amount), np.asarray(status), np.asarray(indicator)

    def _program(self, case: DeliveryCase, estimate: bool) -> Callable[[Any], Any]:
        """The compiled run of a case."""
        kept = self._programs.get((id(case), estimate))
        if kept is None:
            self.require(case)
            safe, halvings = _medians(case), _halvings(case, self.grid)
            # the case is kept too: its id must not be given to another
            run = jax.jit(partial(_run, self, case, safe, halvings, estimate))
            kept = self._programs[id(case), estimate] = (case, run)
        return kept[1]

    def require(self, case: DeliveryCase) -> None:
        """Refuse a case of other cells, times or doses than the model was built for.

        Raises
        ------
        BadInput
        """
        if len(self.phi) != case.site.faces.n or not np.array_equal(self.phi, case.site.phi):
            raise BadInput("the reduced model is of another site", "reduced delivery", "train it again")
        if not np.array_equal(self.times, case.times):
            raise BadInput(
                "the reduced model is for other output times", "reduced delivery", "train it again"
            )
        if case.doses != self.doses:
            raise BadInput("the reduced model is for other doses", "reduced delivery", "train it again")

    def coefficients(self, amount: Any, species: int, xp: Any = np) -> Any:
        """Coefficients (N, T, r_s) of a species from amounts (N, T, s, k) at the nodes."""
        one = amount[:, :, species]
        one = one / self.nodes.phi if species < len(self.moved) else one
        return one @ xp.asarray(self.lifts[species]).T

    def fields(
        self, amount: np.ndarray, species: int, region: np.ndarray | slice = slice(None)
    ) -> np.ndarray:
        """Amounts (N, T, c) of a species in cells of a region from amounts (N, T, s, k) at the nodes."""
        values = self.coefficients(amount, species) @ self.bases[species][region].T
        return values * self.phi[region] if species < len(self.moved) else values


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


def _medians(case: DeliveryCase) -> np.ndarray:
    """Harmless values for members that cannot run, so that neither values nor gradients are spoilt."""
    return np.asarray(case.space.from_gaussian(np.zeros((1, case.space.size))))[0]


def _halvings(case: DeliveryCase, grid: TimeGrid) -> int:
    """Of the plasma's exponentials: four standard deviations up."""
    far = case.inputs(np.asarray(case.space.from_gaussian(np.full((1, case.space.size), 4.0))))
    return squarings(float(np.abs(far.plasma[0]).sum(axis=0).max() * grid.interval.max()))


def node_kinetics(
    flow: ReducedFlow, nodes: Nodes, x: DeliveryInputs, pairs: cells.Pairs, pressure: Any, xp: Any
) -> cells.Local:
    """Coefficients of the local kinetics at the nodes from the reduced pressure (N, r_p)."""
    filtered, drained = flow.exchange(x.fluid, pressure, nodes.pressure, nodes.label, nodes.relative, xp)
    return local_kinetics(nodes, x, pairs, filtered, drained, xp)


def local_kinetics(
    nodes: Nodes, x: DeliveryInputs, pairs: cells.Pairs, filtered: Any, drained: Any, xp: Any
) -> cells.Local:
    """The same from the fluid filtered and drained, (N, k)."""
    lymph, surface = xp.maximum(drained, 0.0), x.fluid["S"][:, nodes.label] * nodes.relative
    out, gain = [], []
    for s in range(x.diffusivity.shape[1]):
        drag = filtered * (1.0 - x.reflection[:, s][:, nodes.label])
        enter, leave = across_wall(x.permeability[:, s][:, nodes.label] * surface, drag, xp)
        gain.append(enter)
        out.append((leave + lymph) / nodes.phi)
    links = cell_links(x, pairs, nodes.label, nodes.phi)
    return cells.Local(tuple(out), tuple(gain), x.reactions, nodes.label, links)


def _run(
    model: ReducedDelivery, case: DeliveryCase, safe: np.ndarray, halvings: int, estimate: bool, theta: Any
) -> tuple[Any, ...]:
    """Amounts (N, T, s, k) and status (N,) of members theta (N, p), and the indicator (N, T) if it is wanted."""
    status = inputs_status(case.inputs(theta, jnp))
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
    seen, slope = _plasma(x, model.grid, halvings)
    amount, status = _advance(model, case, local, moves, seen, slope, status)
    picked = jnp.concatenate([amount, jnp.zeros_like(amount[:1])])[model.grid.output]
    found = jnp.transpose(picked, (2, 0, 1, 3))
    return (found, status, _indicator(model, amount, left)) if estimate else (found, status)


def _indicator(model: ReducedDelivery, states: Any, left: list[Any]) -> Any:
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
    added = jnp.cumsum(rate * model.grid.dt[:, None], axis=0) + gap
    added = jnp.concatenate([added, jnp.zeros_like(added[:1])])
    return added[model.grid.output].T


def _plasma(x: DeliveryInputs, grid: TimeGrid, halvings: int) -> tuple[Any, Any]:
    """Plasma concentrations of every stage (S, 4, N, m), and their slopes at every step's start (S, N, m)."""
    p = x.plasma.shape[-1]
    spans = grid.interval[:, None] * np.array([*STAGES[1:3], 1.0])
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
    _, found = jax.lax.scan(one, start, (jnp.asarray(grid.which), jnp.asarray(grid.jump)))
    return found


def _advance(
    model: ReducedDelivery, case: DeliveryCase, local: cells.Local, moves: list[Any], seen: Any, slope: Any, status: Any
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
        new = step(c, h, rate, cells.jacobian(local, pairs, c), drift, jnp)
        within = (jnp.abs(new) <= model.limit).all(axis=(0, 2))
        code = jnp.where((code == OK) & ~within, DIVERGED, code)
        c = jnp.where((code == OK)[None, :, None], new, c)
        return (c, code), c

    start = jnp.zeros((case.drug.size, status.shape[0], len(phi)))
    (_, status), states = jax.lax.scan(advance, (start, status), (jnp.asarray(model.grid.dt), seen, slope))
    return states, status
