"""Reduced plasma kinetics and tissue transport: one small linear system per member, exact in time.

With ``C = phi^(1/2) V y`` (V orthonormal: a POD basis in the inner product weighted by 1/phi, in which
diffusion and exchange are symmetric, so that the reduced system is as stable as the full one),

    dy_0/dt = (sum_g c_g(D) B_g + sum_k e_k X_k) y_0 + (R y)_0 + sum_k e_k b_k f_u Cp(t),     dy_s/dt = (R y)_s
    dz/dt = y_0,         dx/dt = K x  (plasma and pumps, jumping at the doses)

is one autonomous system with jumps. Exchange is the map's, times its factor, and what the scores of the map's modes
change of it, interpolated from a few of its own voxels (:func:`~vvuq_twin.reduction.exchange.deviations`). Between
two stops the system is propagated by a matrix exponential, computed once for every distinct interval; where doses
and times are data (:mod:`~vvuq_twin.reduction.schedule`), once for every stop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from ..domain.fingerprint import fingerprint
from ..domain.parameters import ParameterSpace
from ..physics.faces import harmonic
from .backend import jax, jnp
from .exchange import deviations, scaling
from .expm import expm, squarings
from .pod import pod
from .propagate import NOT_FINITE, OK, TOO_STIFF
from .schedule import Schedule, fractions, stops
from .transport_case import TransportCase, TransportInputs

#: Terms of an uncertain exchange map at most, and the relative energy of its changes they may leave out.
TERMS, LEFT_OUT = 320, 1e-6


class TransportOperators(NamedTuple):
    """Projected pieces.

    Parameters
    ----------
    diffusion : array, shape (G, r, r)
    convection : array, shape (r, r)
    exchange : array, shape (1 + k, r, r)
        Of the map, and of the fields its changes are interpolated by.
    source : array, shape (1 + k, r)
    base : array, shape (k,)
        The map in the k cells of the interpolation, 1/h.
    patterns : array, shape (q, k)
        Its modes there.
    """

    diffusion: Any
    convection: Any
    exchange: Any
    source: Any
    base: Any
    patterns: Any

    def weights(self, x: TransportInputs, xp: Any = np) -> Any:
        """Of the terms of exchange and source, (N, 1 + k)."""
        changes = xp.asarray(self.base) * (scaling(x.scores, self.patterns, xp) - 1.0)
        return x.factor[:, None] * xp.concatenate([xp.ones_like(x.factor)[:, None], changes], axis=1)


@dataclass(frozen=True)
class ReducedTransport:
    """A reduced model of one agent in one patient.

    Parameters
    ----------
    vectors : ndarray, shape (n, r)
        ``phi^(1/2) V``: coefficients to amounts per volume of tissue.
    operators : TransportOperators
    groups : tuple of (int, int)
        Pairs of tissues of the face groups.
    speed : float
        Bound of the system's 1-norm (1/h) at four standard deviations of the prior: it sets how often the
        exponentials are squared; members beyond twice the bound get the status ``TOO_STIFF``.
    singular_values : ndarray
    errors : dict
        From :func:`validate_transport`.
    fingerprint : str
        Hash of what it was built from (:func:`transport_fingerprint`).
    """

    vectors: np.ndarray
    operators: TransportOperators
    groups: tuple[tuple[int, int], ...]
    speed: float
    singular_values: np.ndarray
    errors: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""

    @property
    def rank(self) -> int:
        return int(self.vectors.shape[1])

    def run(self, case: TransportCase, theta: Any, xp: Any = np) -> tuple[Any, Any, Any]:
        """Coefficients at the output times.

        Returns
        -------
        amount : array, shape (N, T, s, r)
            Of every species.
        exposure : array, shape (N, T, r)
            Time integral of the free drug.
        status : array of int, shape (N,)
        """
        x = case.inputs(theta, xp)
        interval, which, jump, output = _schedule(case)
        halvings = squarings(self.speed * float(interval.max()))
        states, status = _propagate(
            self.operators, harmonic(x.diffusivity, self.groups, xp), x, interval, which, jump, halvings
        )
        return self._parts(states, output, status, case, xp)

    def follow(
        self, case: TransportCase, theta: Any, schedule: Schedule, xp: Any = np
    ) -> tuple[Any, Any, Any]:
        """The same for doses and output times that are data, in place of the case's.

        A schedule of the same shape runs the same program, and its amounts, times and durations have derivatives. It costs one
        matrix exponential for every dose's start and end and every output time; stops that are more than twice the case's last
        output time apart have the status ``TOO_STIFF``.

        Returns
        -------
        amount, exposure, status
            As of :meth:`run`.
        """
        x = case.inputs(theta, xp)
        m = len(case.agent.plasma.compartments)
        pumps = np.zeros((2 * m, 2 * m))
        pumps[:m, m:] = np.eye(m)
        extra = ((0, 0), (0, m), (0, m))
        x = x._replace(
            plasma=xp.pad(x.plasma[:, :m, :m], extra) + pumps, readout=xp.pad(x.readout[:, :m], extra[:2])
        )
        at = stops(schedule, fractions(case.agent.plasma_model()))
        halvings = squarings(self.speed * float(case.times.max()))
        states, status = _follow(
            self.operators, harmonic(x.diffusivity, self.groups, xp), x, at.gap, at.jump, halvings
        )
        return self._parts(states, at.output, status, case, xp)

    def _parts(self, states: Any, output: Any, status: Any, case: TransportCase, xp: Any) -> tuple[Any, Any, Any]:  # fmt: skip
        """Amounts and exposures at the output's stops from all states (S, N, d)."""
        picked = jnp.transpose(states[output], (1, 0, 2))
        r, s = self.rank, len(case.agent.species)
        amount = picked[:, :, : s * r].reshape(*picked.shape[:2], s, r)
        exposure = picked[:, :, s * r : (s + 1) * r]
        if xp is np:
            return np.asarray(amount), np.asarray(exposure), np.asarray(status)
        return amount, exposure, status

    def total_exposure(self, case: TransportCase, theta: Any, xp: Any = np) -> Any:
        """Coefficients (N, r) of the free drug's time integral over all time: one small solve a member."""
        x = case.inputs(theta, xp)
        given = np.zeros(case.plan.size)
        given[: len(case.plan.given)] = case.plan.given
        m = len(case.agent.plasma.compartments)
        area = xp.linalg.solve(-x.plasma[:, :m, :m], given[None, :m, None] * xp.ones((theta.shape[0], 1, 1)))
        auc = x.unbound * (x.readout[:, :m] * area[:, :, 0]).sum(axis=1)
        weights = self.operators.weights(x, xp)
        matrix = _tissue_matrix(self.operators, harmonic(x.diffusivity, self.groups, xp), weights, xp)
        sink = _sink(x.reactions, xp)
        matrix = matrix - sink[:, None, None] * np.eye(self.rank)
        right = auc[:, None] * (weights @ xp.asarray(self.operators.source))
        return xp.linalg.solve(-matrix, right[:, :, None])[:, :, 0]


def _sink(reactions: Any, xp: Any) -> Any:
    """Net first-order loss of the free drug through all species, (N,); see ``physics.tissue.reaction_sink``."""
    if reactions.shape[1] == 1:
        return -reactions[:, 0, 0]
    block = reactions[:, 1:, 1:]
    fed = xp.linalg.solve(block, reactions[:, 1:, :1])
    return -(reactions[:, 0, 0] - (reactions[:, :1, 1:] @ fed)[:, 0, 0])


def _tissue_matrix(op: TransportOperators, conductance: Any, weights: Any, xp: Any) -> Any:
    spread = xp.einsum("ng,gij->nij", conductance, xp.asarray(op.diffusion))
    return spread + op.convection + xp.einsum("nk,kij->nij", weights, xp.asarray(op.exchange))


def _schedule(case: TransportCase) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Distinct intervals (U,), which one leads to each stop (S,), jumps (S, p) and the outputs' stops (T,)."""
    at = np.asarray(case.times, dtype=float)
    plan = case.plan
    stops = np.unique(np.concatenate([at, plan.times[plan.times <= at.max()]]))
    gaps = np.round(np.diff(stops, prepend=stops[0]), 11)
    interval, which = np.unique(gaps, return_inverse=True)
    jump = np.zeros((len(stops), plan.size))
    for time, values in zip(plan.times, plan.jumps):
        if time <= at.max():
            jump[np.searchsorted(stops, time)] += values
    return interval, which, jump, np.searchsorted(stops, at)


def _system(op: TransportOperators, conductance: Any, x: TransportInputs) -> Any:
    """Matrices (N, d, d), d = (s + 1) r + p."""
    members, r, p = conductance.shape[0], op.source.shape[1], x.plasma.shape[1]
    s = x.reactions.shape[1]
    d = (s + 1) * r + p
    weights = op.weights(x, jnp)
    matrix = jnp.zeros((members, d, d))
    matrix = matrix.at[:, : s * r, : s * r].set(
        jnp.einsum("nab,ij->naibj", x.reactions, jnp.eye(r)).reshape(members, s * r, s * r)
    )
    matrix = matrix.at[:, :r, :r].add(_tissue_matrix(op, conductance, weights, jnp))
    source = x.unbound[:, None] * (weights @ jnp.asarray(op.source))
    matrix = matrix.at[:, :r, -p:].set(source[:, :, None] * x.readout[:, None, :])
    matrix = matrix.at[:, s * r : (s + 1) * r, :r].set(jnp.eye(r))
    return matrix.at[:, -p:, -p:].set(x.plasma)


def _judged(matrix: Any, longest: Any, halvings: int) -> tuple[Any, Any]:
    """Matrices of members that can run (zero for the others) over intervals up to the longest, and status (N,)."""
    finite = jnp.isfinite(matrix).all(axis=(1, 2)) & jnp.isfinite(longest)
    norm = jnp.abs(matrix).sum(axis=1).max(axis=1) * longest
    status = jnp.where(~finite, NOT_FINITE, jnp.where(norm * 0.5**halvings > 1.0, TOO_STIFF, OK))
    return jnp.where((status == OK)[:, None, None], matrix, 0.0), status


@partial(jax.jit, static_argnames=("halvings",))
def _propagate(
    op: TransportOperators,
    conductance: Any,
    x: TransportInputs,
    interval: Any,
    which: Any,
    jump: Any,
    halvings: int,
) -> tuple[Any, Any]:
    """States (S, N, d) just after every stop, and status (N,)."""
    matrix, status = _judged(_system(op, conductance, x), jnp.max(interval), halvings)
    flows = jax.lax.map(lambda h: expm(matrix * h, halvings), interval)

    def step(state: Any, stop: tuple[Any, Any]) -> tuple[Any, Any]:
        index, dose = stop
        state = jnp.einsum("nij,nj->ni", flows[index], state)
        state = state.at[:, -x.plasma.shape[1] :].add(dose)
        return state, state

    return jax.lax.scan(step, jnp.zeros(matrix.shape[:2]), (which, jump))[1], status


@partial(jax.jit, static_argnames=("halvings",))
def _follow(
    op: TransportOperators, conductance: Any, x: TransportInputs, gap: Any, jump: Any, halvings: int
) -> tuple[Any, Any]:
    """The same where every stop has its own interval; a gradient keeps the states alone."""
    matrix, status = _judged(_system(op, conductance, x), jnp.max(gap), halvings)
    there = jnp.isfinite(gap).all() & jnp.isfinite(jump).all()
    status = jnp.where(there, status, NOT_FINITE)
    gap, jump = jnp.where(there, gap, 0.0), jnp.where(there, jump, 0.0)

    @jax.checkpoint
    def step(state: Any, stop: tuple[Any, Any]) -> tuple[Any, Any]:
        h, dose = stop
        state = jnp.einsum("nij,nj->ni", expm(matrix * h, halvings), state)
        state = state.at[:, -x.plasma.shape[1] :].add(dose)
        return state, state

    return jax.lax.scan(step, jnp.zeros(matrix.shape[:2]), (gap, jump))[1], status


def build_transport(
    case: TransportCase, theta: np.ndarray, dt_max: float, tolerance: float = 1e-5, max_rank: int = 32
) -> ReducedTransport:
    """Train on full-order runs of members (N, p): their amounts, exposures and total exposures.

    Parameters
    ----------
    case : TransportCase
    theta : ndarray, shape (N, p)
        For example from :func:`~vvuq_twin.reduction.training.training_parameters`.
    dt_max : float
        Longest step of the full order, hours.
    tolerance : float
        Relative energy of the normalised snapshots that may be left out.
    max_rank : int
    """
    root = np.sqrt(case.tissue.phi)
    runs = case.full(theta, dt_max, range(len(case.agent.species))).sound()
    rows = [runs.amount, runs.exposure[:, :, 0], case.full_exposure(theta)]
    snapshots = np.concatenate([x.reshape(-1, len(root)) for x in rows]) / root
    size = np.linalg.norm(snapshots, axis=1)
    snapshots = snapshots[size > 0] / size[size > 0, None]
    basis = pod(snapshots, tolerance, max_rank)
    v = basis.vectors

    def small(term: Any) -> np.ndarray:
        return np.asarray(v.T @ ((sparse.diags_array(1.0 / root) @ term @ sparse.diags_array(root)) @ v))

    t, base = case.terms, case.tissue.ktrans
    changes = deviations(base, case.patterns, LEFT_OUT, TERMS)
    every = np.concatenate([base[None], changes.modes.T])
    operators = TransportOperators(
        np.array([small(term) for term in t.diffusion]),
        np.zeros((basis.rank, basis.rank)) if t.convection is None else small(t.convection),
        np.array([-v.T @ ((one / t.phi)[:, None] * v) for one in every]),
        (every / root) @ v,
        base[changes.points],
        case.patterns[:, changes.points],
    )
    groups = case.tissue.faces.groups
    z = np.full((1, case.space.size), 4.0)
    far = case.inputs(np.asarray(ParameterSpace(case.space.parameters).from_gaussian(z)))
    speed = harmonic(far.diffusivity, groups)[0] @ np.abs(operators.diffusion).sum(axis=1).max(axis=1)
    # four standard deviations of the map are not those of all of its modes at once
    most = float(far.factor[0] * np.exp(4.0 * np.sqrt((case.patterns**2).sum(axis=0)).max()))
    speed += most * float(np.abs(operators.exchange[0]).sum(axis=0).max())
    speed += float(np.abs(far.plasma[0]).sum(axis=0).max() + np.abs(far.reactions[0]).sum(axis=0).max()) + 1.0
    speed += most * float(np.abs(far.unbound[0] * operators.source[0]).sum() * far.readout[0].max())
    mark = transport_fingerprint(case, theta, dt_max, tolerance, max_rank)
    return ReducedTransport(
        root[:, None] * v, operators, groups, speed, basis.singular_values, fingerprint=mark
    )


def transport_fingerprint(
    case: TransportCase, theta: np.ndarray, dt_max: float, tolerance: float = 1e-5, max_rank: int = 32
) -> str:
    """What :func:`build_transport` marks its result with, to ask a store for it."""
    return fingerprint(case, np.asarray(theta, dtype=float), float(dt_max), float(tolerance), int(max_rank))


def validate_transport(
    reduced: ReducedTransport, case: TransportCase, theta: np.ndarray, dt_max: float, region: np.ndarray
) -> dict[str, float]:
    """Errors against the full order on unseen members.

    Parameters
    ----------
    region : ndarray of bool, shape (n,)
        The tumour.

    Returns
    -------
    dict
        ``amount_median``, ``amount_percentile_99``, ``amount_worst``: relative L2 error of the free drug in the region, worst output
        time (times at which less than 1 % of the member's peak is left are judged by the peak);
        ``exposure_worst`` and ``mean_exposure_sd``: total exposure, and its mean over the region; with an uncertain map
        ``map_worst``: the interpolated map in the region.
    """
    amount, _, _ = reduced.run(case, theta)
    total = reduced.total_exposure(case, theta) @ reduced.vectors.T
    truth = case.full_exposure(theta)
    worst = []
    for i, free in enumerate(case.full(theta, dt_max, cells=region).sound().amount[:, :, 0]):
        twin = amount[i, :, 0] @ reduced.vectors[region].T
        scale = np.linalg.norm(free, axis=1)
        scale = np.maximum(scale, 0.01 * scale.max())
        worst.append(float((np.linalg.norm(twin - free, axis=1) / scale).max()))
    gap = np.linalg.norm((total - truth)[:, region], axis=1) / np.linalg.norm(truth[:, region], axis=1)
    mean = total[:, region].mean(axis=1) / truth[:, region].mean(axis=1) - 1.0
    found = {
        "amount_median": float(np.median(worst)),
        "amount_worst": float(np.max(worst)),
        "amount_percentile_99": float(np.quantile(worst, 0.99, method="higher")),
        "exposure_worst": float(gap.max()),
        "mean_exposure_sd": float(np.sqrt((mean**2).mean())),
    }
    return found | ({"map_worst": _map_error(reduced, case, theta, region)} if len(case.patterns) else {})


def _map_error(
    reduced: ReducedTransport, case: TransportCase, theta: np.ndarray, region: np.ndarray
) -> float:
    """Largest relative L2 error over the region of the interpolated map."""
    x, base = case.inputs(np.asarray(theta, dtype=float)), case.tissue.ktrans
    changes = deviations(base, case.patterns, LEFT_OUT, TERMS)
    wanted = x.factor[:, None] * base * scaling(x.scores, case.patterns)
    every = np.concatenate([base[None], changes.modes.T])
    gap = reduced.operators.weights(x) @ every - wanted
    return float((np.linalg.norm(gap[:, region], axis=1) / np.linalg.norm(wanted[:, region], axis=1)).max())


__all__ = [
    "ReducedTransport", "TransportOperators", "build_transport", "transport_fingerprint", "validate_transport",
]  # fmt: skip
