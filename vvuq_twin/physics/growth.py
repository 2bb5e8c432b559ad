"""Tumour growth with chemoradiation, full order: many members through one timeline.

    dN/dt = div(D grad N) + k(t) N (1 - N) - alpha_drug w_g(x) A(t) N,     no flux at the mask's edge
    N+    = N- exp(-alpha_rt d (1 + d / alpha_beta))                       at each fraction of d Gy

with N cellularity as a fraction of the carrying capacity, A(t) the sum of the doses given, each decayed
by exp(-beta (t - t_dose)), and w_g = 1 + exposure_weight (w - 1). Each step is a symmetric (Strang)
splitting: half kill, half reaction, diffusion, half reaction, half kill. The logistic reaction is exact,
the kill integrates A(t) exactly over the step, diffusion is explicit and of second order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput
from . import kernels
from .faces import LANES, Faces
from .rowmath import compiled
from .timeline import Timeline

#: Status of a member.
OK, NOT_FINITE, BAD_PARAMETER = 0, 1, 2


@dataclass(frozen=True)
class GrowthParameters:
    """Parameters of N members.

    Parameters
    ----------
    diffusivity : ndarray, shape (N, L)
        mm2/day per tissue, in the order of ``Faces.names``.
    rate : ndarray, shape (N,) or (N, S)
        Proliferation rate k, 1/day; constant, or one value per step of the timeline.
    drug_kill : ndarray, shape (N,)
        alpha_drug, 1/day per unit amount of drug.
    drug_decay : ndarray, shape (N,)
        beta, 1/day.
    exposure_weight : ndarray, shape (N,)
        0: the drug kills alike everywhere; 1: in proportion to the exposure map.
    radiosensitivity : ndarray, shape (N,)
        alpha_rt, 1/Gy.
    alpha_beta : ndarray, shape (N,)
        Ratio alpha/beta of the linear-quadratic model, Gy.
    """

    diffusivity: np.ndarray
    rate: np.ndarray
    drug_kill: np.ndarray
    drug_decay: np.ndarray
    exposure_weight: np.ndarray
    radiosensitivity: np.ndarray
    alpha_beta: np.ndarray

    @classmethod
    def of(
        cls,
        diffusivity: ArrayLike,
        rate: ArrayLike,
        drug_kill: ArrayLike = 0.0,
        drug_decay: ArrayLike = 1.0,
        exposure_weight: ArrayLike = 0.0,
        radiosensitivity: ArrayLike = 0.0,
        alpha_beta: ArrayLike = 10.0,
    ) -> GrowthParameters:
        """Broadcast numbers to all members; ``diffusivity`` (N, L) or (L,) sets their number."""
        d = np.atleast_2d(np.asarray(diffusivity, dtype=float))
        k = np.asarray(rate, dtype=float)
        n = max(len(d), len(k) if k.ndim else 1)
        d = np.broadcast_to(d, (n, d.shape[1]))
        k = np.broadcast_to(k, (n,)) if k.ndim < 2 else np.broadcast_to(k, (n, k.shape[1]))
        rest = [
            np.broadcast_to(np.asarray(x, dtype=float), (n,))
            for x in (drug_kill, drug_decay, exposure_weight, radiosensitivity, alpha_beta)
        ]
        return cls(d, k, *rest)


@dataclass(frozen=True)
class Heterogeneity:
    """What a tumour may have that the twin does not know: maps and another growth law.

    Parameters
    ----------
    growth : ndarray, shape (n,), optional
        Factor on the proliferation rate.
    radiosensitivity : ndarray, shape (n,), optional
        Factor on the effect of every fraction.
    exponent : float
        nu of the generalised logistic law ``dN/dt = (k / nu) N (1 - N^nu)``; 1 is logistic, and 0, its limit,
        is Gompertz's law ``dN/dt = -k N log N``.
    """

    growth: np.ndarray | None = None
    radiosensitivity: np.ndarray | None = None
    exponent: float = 1.0


@dataclass(frozen=True)
class Kill:
    """Kill that is known as integrals over the halves of each step: dose rates, exposures by transport.

    ``log survival`` of member i over half h of step s is ``-sum_j strength_ij amount_shj map_j(x)``.

    Parameters
    ----------
    amount : ndarray, shape (S, 2, K)
        Integrals over both halves of each step of the timeline, not negative.
    maps : ndarray, shape (K, n)
        Not negative.
    strength : ndarray, shape (N, K)
        Per member, not negative.

    Raises
    ------
    BadInput
        If shapes do not fit together, or a value is negative or not finite.
    """

    amount: np.ndarray
    maps: np.ndarray
    strength: np.ndarray

    def __post_init__(self) -> None:
        for name, ndim in (("amount", 3), ("maps", 2), ("strength", 2)):
            v = np.asarray(getattr(self, name), dtype=float)
            if v.ndim != ndim or not np.isfinite(v).all() or (v < 0).any():
                raise BadInput(
                    f"{name} of the kill has a wrong shape, or is negative or not finite", "growth"
                )
            object.__setattr__(self, name, v)
        terms = self.maps.shape[0]
        if self.amount.shape[1:] != (2, terms) or self.strength.shape[1] != terms:
            raise BadInput("amounts, maps and strengths of the kill are not of the same terms", "growth")


def advance(
    faces: Faces,
    initial: np.ndarray,
    parameters: GrowthParameters,
    timeline: Timeline,
    exposure: np.ndarray | None = None,
    heterogeneity: Heterogeneity | None = None,
    every_step: bool = False,
    kill: Kill | None = None,
    negligible: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Run members from ``timeline.t0`` through all visits.

    Parameters
    ----------
    faces : Faces
    initial : ndarray, shape (N, n) or (n,)
        Cellularity fraction at t0 in the active cells.
    parameters : GrowthParameters
        Of N members.
    timeline : Timeline
    exposure : ndarray, shape (n,), optional
        Local over mean exposure to the drug, w(x); 1 everywhere if absent.
    heterogeneity : Heterogeneity, optional
    every_step : bool
        Return the state at the end of every used step (before its events) instead of at the visits.
    kill : Kill, optional
        Besides the drug of the timeline: see :mod:`~vvuq_twin.physics.response`.
    negligible : float
        Cells that a step's stages do not reach from any with this cellularity are left as they are, neither grown nor
        killed: about half the work where the tumour fills a part of the organ, for errors of this order times what a
        cell could have grown meanwhile; mass is balanced no better. 0 computes every cell.

    Returns
    -------
    states : ndarray, shape (N, V, n)
        The state at each visit, finite also where a member failed (its last finite state is held).
    status : ndarray of int, shape (N,)
        0 good, 1 the state became non-finite, 2 a parameter or the initial state is unusable.

    Raises
    ------
    BadInput
        If the shapes of the arguments do not fit together.
    """
    het = heterogeneity or Heterogeneity()
    start = np.atleast_2d(np.asarray(initial, dtype=float))
    members, steps = len(parameters.diffusivity), timeline.steps
    if start.shape not in {(1, faces.n), (members, faces.n)}:
        raise BadInput(
            f"the initial state has shape {start.shape}, not ({members}, {faces.n})", "growth model"
        )
    if parameters.diffusivity.shape[1] != len(faces.names):
        raise BadInput("there is not one diffusivity per tissue", "growth model")
    rate = parameters.rate if parameters.rate.ndim == 2 else parameters.rate[:, None]
    rate = np.broadcast_to(rate, (members, steps))
    columns = np.column_stack(
        [
            parameters.drug_kill,
            parameters.drug_decay,
            parameters.exposure_weight,
            parameters.radiosensitivity,
            parameters.alpha_beta,
        ]
    )
    good = np.isfinite(rate).all(axis=1) & np.isfinite(columns).all(axis=1)
    good &= np.isfinite(parameters.diffusivity).all(axis=1) & (parameters.diffusivity >= 0).all(axis=1)
    good &= (columns[:, 1] > 0) & (columns[:, 4] > 0)
    good &= np.isfinite(start).all(axis=1)
    more, more_maps = _kill_terms(faces, kill, members, steps)
    conductance = faces.conductance(np.where(good[:, None], parameters.diffusivity, 0.0))

    growth = np.ones(faces.n) if het.growth is None and het.exponent != 1.0 else het.growth
    maps = [_boxed(faces, m) for m in (exposure, growth, het.radiosensitivity)]
    record = np.arange(timeline.used) if every_step else timeline.visit[: timeline.used]
    rows_out = timeline.used if every_step else len(timeline.visits)
    states = np.empty((members, rows_out, faces.n))
    status = np.zeros(members, dtype=np.int64)
    inverse = tuple(1.0 / h**2 for h in faces.grid.spacing)
    uniform = (exposure is None, growth is None, het.radiosensitivity is None)
    for i in range(members):
        first = start[i if len(start) > 1 else 0]
        if not good[i]:
            states[i] = np.nan_to_num(first, posinf=0.0, neginf=0.0)
            status[i] = BAD_PARAMETER
            continue
        if timeline.initial_visit >= 0 and not every_step:
            states[i, timeline.initial_visit] = first
        status[i] = _member(
            first, faces.place, faces.rows, faces.face_group, inverse, conductance[i],
            timeline.dt[: timeline.used], timeline.drug_jump, timeline.dose, timeline.dose_sq, record,
            rate[i], columns[i], maps[0], maps[1], maps[2], uniform, float(het.exponent),
            np.ascontiguousarray(more[i]), more_maps, float(negligible), states[i],
        )  # fmt: skip
    return states, status


def _kill_terms(faces: Faces, kill: Kill | None, members: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Strength times amount of each term, (N, S, 2, K), and its maps on the box."""
    if kill is None:
        return np.zeros((members, 1, 2, 0)), np.zeros((0, 1, 1, 1))
    if (
        kill.amount.shape[0] < steps
        or kill.maps.shape[1] != faces.n
        or len(kill.strength) not in (1, members)
    ):
        raise BadInput(
            f"the kill is of {kill.amount.shape[0]} steps, {kill.maps.shape[1]} voxels and {len(kill.strength)} members, "
            f"not {steps}, {faces.n} and {members}", "growth model",
        )  # fmt: skip
    strength = np.broadcast_to(kill.strength, (members, kill.strength.shape[1]))
    boxed = np.stack([faces.boxed(m) for m in kill.maps]) if len(kill.maps) else np.zeros((0, 1, 1, 1))
    return strength[:, None, None, :] * kill.amount, boxed


def _boxed(faces: Faces, values: np.ndarray | None) -> np.ndarray:
    """A map on the box, or a single dummy cell where there is none."""
    if values is None:
        return np.ones((1, 1, 1))
    if np.shape(values) != (faces.n,):
        raise BadInput(f"a map has shape {np.shape(values)}, not ({faces.n},)", "growth model")
    if not np.isfinite(values).all():
        raise BadInput("a map has non-finite values", "growth model")
    return faces.boxed(values)


@compiled
def _local(
    u: np.ndarray,
    rows: np.ndarray,
    doses: float,
    amount: float,
    weight: float,
    exposure: np.ndarray,
    factor: np.ndarray,
    uniform: tuple[bool, bool, bool],
    exponent: float,
    scratch: np.ndarray,
) -> None:
    """Kill by ``doses`` (alpha times the integral of A), then growth by ``amount``."""
    if uniform[1] and (uniform[0] or doses == 0.0):
        s, e = np.exp(-doses), np.exp(amount)
        kernels.moebius(u, rows, s * e, s * (e - 1.0))
        return
    if doses != 0.0:
        _drug(u, rows, doses, weight, exposure, uniform, scratch)
    if uniform[1]:
        e = np.exp(amount)
        kernels.moebius(u, rows, e, e - 1.0)
    else:
        kernels.grow(u, rows, amount, factor, exponent, scratch)


@compiled
def _drug(
    u: np.ndarray,
    rows: np.ndarray,
    doses: float,
    weight: float,
    exposure: np.ndarray,
    uniform: tuple[bool, bool, bool],
    scratch: np.ndarray,
) -> None:
    """Kill by the drug: uniform, or weighted by the exposure map."""
    if uniform[0]:
        kernels.moebius(u, rows, np.exp(-doses), 0.0)
        return
    kernels.kill(u, rows, doses, exposure, 1.0 - weight, weight, scratch)


@compiled
def _member(
    first: np.ndarray,
    place: np.ndarray,
    rows: np.ndarray,
    groups: tuple[np.ndarray, np.ndarray, np.ndarray],
    inverse: tuple[float, float, float],
    conductance: np.ndarray,
    dt: np.ndarray,
    jump: np.ndarray,
    dose: np.ndarray,
    dose_sq: np.ndarray,
    record: np.ndarray,
    rate: np.ndarray,
    columns: np.ndarray,
    exposure: np.ndarray,
    factor: np.ndarray,
    sensitivity: np.ndarray,
    uniform: tuple[bool, bool, bool],
    exponent: float,
    more: np.ndarray,
    more_maps: np.ndarray,
    negligible: float,
    states: np.ndarray,
) -> int:
    """All steps of one member."""
    shape = groups[0].shape
    u = np.zeros(shape)
    flat = u.ravel()
    for c in range(place.size):
        flat[place[c]] = first[c]
    g0, g1, g2 = np.empty(shape), np.empty(shape), np.empty(shape)
    kernels.face_values(groups[0], conductance, inverse[0], g0)
    kernels.face_values(groups[1], conductance, inverse[1], g1)
    kernels.face_values(groups[2], conductance, inverse[2], g2)
    bound = kernels.spectral_bound(g0, g1, g2, rows)
    longest = 0.0
    for s in range(dt.size):
        longest = max(longest, dt[s])
    work = np.zeros((1 if kernels.stages(longest, bound) == 2 else 4, shape[0], shape[1], shape[2]))
    tmp, scratch = np.zeros(shape[2]), np.zeros((4, shape[2]))
    alpha_drug, beta, weight = columns[0], columns[1], columns[2]
    alpha_rt, alpha_beta = columns[3], columns[4]
    # the second half of a step's kill is owed until the next step's first half, a visit or a fraction: one pass for two
    amplitude, owed = 0.0, 0.0
    living, count, reach = rows.copy(), rows.shape[0], 0
    ends = np.empty((2, shape[0], shape[1]), dtype=np.int64)
    for s in range(dt.size):
        if negligible > 0.0 and dt[s] > 0.0:
            if reach != kernels.stages(dt[s], bound):
                # another scheme's stages: what it left beside the living cells is not this one's
                reach = kernels.stages(dt[s], bound)
                work[:] = 0.0
            count = kernels.live_rows(u, rows, negligible, reach, LANES, ends, living)
        here = living[:count]
        if dt[s] > 0.0:
            half = np.exp(-0.5 * beta * dt[s])
            one = alpha_drug * amplitude * (1.0 - half) / beta
            one = one if one > 1e-18 else 0.0  # what is below round-off is not computed
            amount = 0.5 * rate[s] * dt[s]
            for j in range(more_maps.shape[0]):
                if more[s, 0, j] != 0.0:
                    kernels.kill(u, here, more[s, 0, j], more_maps[j], 0.0, 1.0, scratch)
            _local(u, here, owed + one, amount, weight, exposure, factor, uniform, exponent, scratch)
            kernels.diffuse(u, g0, g1, g2, here, dt[s], bound, work, tmp)
            _local(u, here, 0.0, amount, weight, exposure, factor, uniform, exponent, scratch)
            owed = one * half
            for j in range(more_maps.shape[0]):
                if more[s, 1, j] != 0.0:
                    kernels.kill(u, here, more[s, 1, j], more_maps[j], 0.0, 1.0, scratch)
            amplitude *= half * half
        if owed != 0.0 and (record[s] >= 0 or dose[s] > 0.0):
            _drug(u, here, owed, weight, exposure, uniform, scratch)
            owed = 0.0
        if record[s] >= 0:
            out = states[record[s]]
            sound = True
            for c in range(place.size):
                out[c] = flat[place[c]]
                if not np.isfinite(out[c]):
                    sound = False
            if not sound:
                _hold(states, record, s, first)
                return 1
        if dose[s] > 0.0:
            effect = alpha_rt * (dose[s] + dose_sq[s] / alpha_beta)
            if uniform[2]:
                kernels.moebius(u, here, np.exp(-effect), 0.0)
            else:
                kernels.kill(u, here, effect, sensitivity, 0.0, 1.0, scratch)
        amplitude += jump[s]
    return 0


@compiled
def _hold(states: np.ndarray, record: np.ndarray, failed: int, first: np.ndarray) -> None:
    """Fill the visits from step ``failed`` on with the last one recorded before it."""
    last = -1
    for s in range(failed):
        if record[s] >= 0:
            last = record[s]
    for s in range(failed, record.size):
        if record[s] >= 0:
            states[record[s]] = first if last < 0 else states[last]
