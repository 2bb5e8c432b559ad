"""Reduced plasma kinetics and tissue transport: one small linear system per member, exact in time.

With ``C = phi^(1/2) V y`` (V orthonormal: a POD basis in the inner product weighted by 1/phi, in which
diffusion and exchange are symmetric, so that the reduced system is as stable as the full one),

    dy_0/dt = (sum_g c_g(D) B_g + theta X) y_0 + (R y)_0 + theta b f_u Cp(t),     dy_s/dt = (R y)_s
    dz/dt = y_0,         dx/dt = K x  (plasma and pumps, jumping at the doses)

is one autonomous system with jumps. Between two stops it is propagated by a matrix exponential, computed
once for every distinct interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from ..domain.errors import BadInput, near
from ..domain.fingerprint import fingerprint
from ..domain.parameters import ParameterSpace
from ..kinetics.plasma import Course, Dose, PlasmaModel, course, rate_matrix
from ..physics.agents import Agent
from ..physics.faces import harmonic
from ..physics.tissue import Drug, Tissue, TransportTerms, transport_terms
from ..physics.transport import TransportedMembers, total_exposure, transport_members
from .backend import jax, jnp
from .expm import expm, squarings
from .pod import pod
from .propagate import NOT_FINITE, OK, TOO_STIFF


class TransportInputs(NamedTuple):
    """What differs between members.

    Parameters
    ----------
    diffusivity : array, shape (N, L)
        mm2/h.
    factor : array, shape (N,)
        On Ktrans everywhere.
    reactions : array, shape (N, s, s)
        1/h.
    plasma : array, shape (N, p, p)
        Rates between compartments, pumps included, 1/h.
    readout : array, shape (N, p)
        Plasma concentration from the compartments, 1/L.
    unbound : array, shape (N,)
    """

    diffusivity: Any
    factor: Any
    reactions: Any
    plasma: Any
    readout: Any
    unbound: Any


@dataclass(frozen=True)
class TransportCase:
    """One agent in one patient's tissue.

    Parameters
    ----------
    tissue : Tissue
        Without flow, or with one that does not depend on the parameters.
    agent : Agent
    doses : tuple of Dose
    times : ndarray, shape (T,)
        Output times, hours.
    space : ParameterSpace
        Of the names of ``Agent.parameters()`` and ``ktrans_factor``; other names are ignored.
    fixed : mapping of str to float
        Values instead of the agent's nominal ones.

    Raises
    ------
    BadInput
        If a fixed name is unknown or also uncertain.
    """

    tissue: Tissue
    agent: Agent
    doses: tuple[Dose, ...]
    times: np.ndarray
    space: ParameterSpace
    fixed: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.fixed:
            if name in self.space.names:
                raise BadInput(f"'{name}' is both uncertain and fixed", "transport", "keep one of the two")
            if name not in self.nominal:
                raise BadInput(
                    f"{self.agent.name} has no parameter '{name}'", "transport", near(name, self.nominal)
                )

    @cached_property
    def nominal(self) -> dict[str, float]:
        """The agent's own values."""
        values: dict[str, float] = {}
        for p in self.agent.parameters():
            values[p.name] = float(np.asarray(p.prior.from_gaussian(np.zeros(1)))[0])
        values["ktrans_factor"] = 1.0
        values["unbound"] = self.agent.plasma.unbound.to("1")
        return values

    @cached_property
    def plan(self) -> Course:
        """Doses as jumps, at the nominal rates."""
        return course(self.agent.plasma_model(), self.doses)

    @cached_property
    def terms(self) -> TransportTerms:
        """The linear pieces of the full order."""
        return transport_terms(self.tissue)

    def value(self, theta: Any, name: str) -> Any:
        """Values (N,) of one parameter."""
        if name in self.space.names:
            return theta[:, self.space.index(name)]
        return 0.0 * theta[:, 0] + float(self.fixed.get(name, self.nominal[name]))

    def inputs(self, theta: Any, xp: Any = np) -> TransportInputs:
        """Members' rates from theta (N, p), in numpy or jax.numpy."""
        names = self.tissue.faces.names
        single = "D_drug" in self.nominal
        d = xp.stack([self.value(theta, "D_drug" if single else f"D_drug_{x}") for x in names], axis=1)
        plasma = self.agent.plasma
        k = self._rates(theta, plasma.compartments, [(f.source, f.target) for f in plasma.flows], "", xp)
        size, m = self.plan.size, len(plasma.compartments)
        pumps = np.array(self.plan.matrix)
        pumps[:m, :m] = 0.0
        k = xp.pad(k, ((0, 0), (0, size - m), (0, size - m))) + pumps
        reactions = self._rates(
            theta,
            self.agent.species,
            [(f.source, f.target) for f in self.agent.tissue.reactions],
            "tissue_",
            xp,
        )
        where = np.zeros(size)
        where[plasma.compartments.index(plasma.central)] = 1.0
        readout = where / self.value(theta, "volume")[:, None]
        return TransportInputs(
            d, self.value(theta, "ktrans_factor"), reactions, k, readout, self.value(theta, "unbound")
        )

    def _rates(
        self, theta: Any, names: tuple[str, ...], flows: list[tuple[str, str]], prefix: str, xp: Any
    ) -> Any:
        total = xp.zeros((theta.shape[0], len(names), len(names)))
        for source, target in flows:
            unit = rate_matrix(names, {(source, target): 1.0})
            total = total + self.value(theta, f"{prefix}{source}_to_{target}")[:, None, None] * unit
        return total

    def full(
        self,
        theta: np.ndarray,
        dt_max: float,
        species: Sequence[int] = (0,),
        cells: np.ndarray | None = None,
    ) -> TransportedMembers:
        """Full-order runs of members (N, p), with linear (upwind) convection; of the kept species and cells."""
        x = self.inputs(np.asarray(theta, dtype=float))
        return transport_members(
            self.tissue.faces, lambda i: self.member(x, i), len(theta), self.times, dt_max, "upwind",
            species=species, cells=cells,
        )  # fmt: skip

    def full_exposure(self, theta: np.ndarray) -> np.ndarray:
        """Full-order time integrals of the free drug over all time, (N, n)."""
        x = self.inputs(np.asarray(theta, dtype=float))
        return np.array([total_exposure(*self.member(x, i)) for i in range(len(theta))])

    def member(self, x: TransportInputs, i: int) -> tuple[Tissue, Drug, Course]:
        """One member's tissue, drug and plasma course for the full order."""
        t = self.tissue
        tissue = Tissue(t.faces, x.factor[i] * t.ktrans, t.phi, t.vp, t.velocity)
        drug = Drug(x.diffusivity[i], x.reactions[i], self.agent.species, float(x.unbound[i]))
        p = self.agent.plasma
        m = len(p.compartments)
        fraction = {name: number.to("1") for name, number in p.bioavailability.items()}
        volume = 1.0 / x.readout[i].sum()
        model = PlasmaModel(
            p.compartments, x.plasma[i, :m, :m], volume, float(x.unbound[i]), fraction, p.central
        )
        return tissue, drug, course(model, self.doses)


class TransportOperators(NamedTuple):
    """Projected pieces.

    Parameters
    ----------
    diffusion : array, shape (G, r, r)
    convection : array, shape (r, r)
    exchange : array, shape (r, r)
    source : array, shape (r,)
    """

    diffusion: Any
    convection: Any
    exchange: Any
    source: Any


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
        matrix = _tissue_matrix(self.operators, harmonic(x.diffusivity, self.groups, xp), x.factor, xp)
        sink = _sink(x.reactions, xp)
        matrix = matrix - sink[:, None, None] * np.eye(self.rank)
        right = (x.factor * auc)[:, None] * self.operators.source
        return xp.linalg.solve(-matrix, right[:, :, None])[:, :, 0]


def _sink(reactions: Any, xp: Any) -> Any:
    """Net first-order loss of the free drug through all species, (N,); see ``physics.tissue.reaction_sink``."""
    if reactions.shape[1] == 1:
        return -reactions[:, 0, 0]
    block = reactions[:, 1:, 1:]
    fed = xp.linalg.solve(block, reactions[:, 1:, :1])
    return -(reactions[:, 0, 0] - (reactions[:, :1, 1:] @ fed)[:, 0, 0])


def _tissue_matrix(op: TransportOperators, conductance: Any, factor: Any, xp: Any) -> Any:
    spread = xp.einsum("ng,gij->nij", conductance, xp.asarray(op.diffusion))
    return spread + op.convection + factor[:, None, None] * op.exchange


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
    """States (S, N, d) just after every stop, d = (s + 1) r + p, and status (N,)."""
    members, r, p = conductance.shape[0], op.source.shape[0], x.plasma.shape[1]
    s = x.reactions.shape[1]
    d = (s + 1) * r + p
    matrix = jnp.zeros((members, d, d))
    matrix = matrix.at[:, : s * r, : s * r].set(
        jnp.einsum("nab,ij->naibj", x.reactions, jnp.eye(r)).reshape(members, s * r, s * r)
    )
    matrix = matrix.at[:, :r, :r].add(_tissue_matrix(op, conductance, x.factor, jnp))
    feed = (x.factor * x.unbound)[:, None, None] * op.source[None, :, None] * x.readout[:, None, :]
    matrix = matrix.at[:, :r, -p:].set(feed)
    matrix = matrix.at[:, s * r : (s + 1) * r, :r].set(jnp.eye(r))
    matrix = matrix.at[:, -p:, -p:].set(x.plasma)
    finite = jnp.isfinite(matrix).all(axis=(1, 2))
    norm = jnp.abs(matrix).sum(axis=1).max(axis=1) * jnp.max(interval)
    status = jnp.where(~finite, NOT_FINITE, jnp.where(norm * 0.5**halvings > 1.0, TOO_STIFF, OK))
    matrix = jnp.where((status == OK)[:, None, None], matrix, 0.0)
    flows = jax.lax.map(lambda h: expm(matrix * h, halvings), interval)
    start = jnp.zeros((members, d))

    def step(state: Any, stop: tuple[Any, Any]) -> tuple[Any, Any]:
        index, dose = stop
        state = jnp.einsum("nij,nj->ni", flows[index], state)
        state = state.at[:, -p:].add(dose)
        return state, state

    return jax.lax.scan(step, start, (which, jump))[1], status


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

    t = case.terms
    operators = TransportOperators(
        np.array([small(term) for term in t.diffusion]),
        np.zeros((basis.rank, basis.rank)) if t.convection is None else small(t.convection),
        small(t.exchange),
        v.T @ (t.source / root),
    )
    groups = case.tissue.faces.groups
    z = np.full((1, case.space.size), 4.0)
    far = case.inputs(np.asarray(ParameterSpace(case.space.parameters).from_gaussian(z)))
    speed = harmonic(far.diffusivity, groups)[0] @ np.abs(operators.diffusion).sum(axis=1).max(axis=1)
    speed += float(far.factor[0] * (np.abs(operators.exchange).sum(axis=0).max()))
    speed += float(np.abs(far.plasma[0]).sum(axis=0).max() + np.abs(far.reactions[0]).sum(axis=0).max()) + 1.0
    speed += float(np.abs(far.factor[0] * far.unbound[0] * operators.source).sum() * far.readout[0].max())
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
        ``exposure_worst`` and ``mean_exposure_sd``: total exposure, and its mean over the region.
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
    return {
        "amount_median": float(np.median(worst)),
        "amount_worst": float(np.max(worst)),
        "amount_percentile_99": float(np.quantile(worst, 0.99, method="higher")),
        "exposure_worst": float(gap.max()),
        "mean_exposure_sd": float(np.sqrt((mean**2).mean())),
    }


__all__ = [
    "ReducedTransport", "TransportCase", "TransportInputs", "TransportOperators", "build_transport",
    "validate_transport",
]  # fmt: skip
