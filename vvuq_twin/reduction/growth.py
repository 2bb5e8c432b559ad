"""The reduced growth model: a POD basis of the tumour's fields and the operators projected on it.

Offline (see :mod:`~vvuq_twin.reduction.training`) full-order runs give snapshots, snapshots a basis,
the basis the operators; online a member is a vector of a few dozen coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..domain.fingerprint import fingerprint
from ..physics.faces import harmonic
from .backend import jnp
from .case import GrowthCase
from .cubature import POINTS, fitted_loss
from .galerkin import GrowthOperators, padded, project, rotate_to_exposure
from .pod import pod
from .propagate import GrowthInputs, drug_integrals, propagate
from .steps import coarser


@dataclass(frozen=True)
class Snapshots:
    """Compressed snapshots of a batch of runs: rows scaled by singular values, on their support.

    Parameters
    ----------
    rows : ndarray of int, shape (n_rows,)
        Active voxels where any snapshot is not negligible.
    values : ndarray, shape (k, n_rows)
    mix : ndarray, shape (m, k)
        ``mix @ values`` gives the m fields back that were compressed.
    members : int
        Runs they come from.
    largest : float
        Largest Euclidean norm of a snapshot.
    """

    rows: np.ndarray
    values: np.ndarray
    mix: np.ndarray
    members: int
    largest: float


@dataclass(frozen=True)
class ReducedGrowth:
    """A reduced growth model of one patient.

    Parameters
    ----------
    rank : int
        Basis vectors; arrays are padded with zeros to ``size`` so that patients share compiled code.
    rows : ndarray of int, shape (n_rows,)
        Active voxels on which the basis lives; elsewhere the field is zero.
    vectors : ndarray, shape (n_rows, size + further)
        Orthonormal columns, those after ``rank`` up to ``size`` zero. The model moves in the first ``size``; the
        further ones only hold fields that the full order computed (:mod:`~vvuq_twin.reduction.guard`).
    operators : GrowthOperators
    limit : float
        Norm of the coefficients beyond which a member has left the trained range.
    longest : float
        Days; where nothing happens the model takes as few steps as this allows (:func:`stepped`).
    substeps : int
        Runge-Kutta steps per such step.
    saturation : float
        Exponent of the growth law.
    size_full : int
        Active voxels n.
    singular_values : ndarray
        Of the snapshots.
    fingerprint : str
        Hash of what it was built from.
    errors : dict
        Measured and calibrated errors (:class:`~vvuq_twin.reduction.validation.Validation`), as plain numbers.
    timings : dict
        What training and running cost; no part of what the model is.
    """

    rank: int
    rows: np.ndarray
    vectors: np.ndarray
    operators: GrowthOperators
    limit: float
    longest: float
    substeps: int
    saturation: float
    size_full: int
    singular_values: np.ndarray
    fingerprint: str = ""
    errors: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Padded number of coefficients the model moves in."""
        return int(np.shape(self.operators.total)[0])

    @property
    def moving(self) -> np.ndarray:
        """The basis the model moves in, shape (n_rows, size)."""
        return self.vectors[:, : self.size]

    def project(self, fields: np.ndarray) -> np.ndarray:
        """Coefficients (N, size) of fields (N, n), orthogonally projected."""
        return np.asarray(fields)[:, self.rows] @ self.moving

    def represent(self, fields: np.ndarray) -> np.ndarray:
        """Coefficients (N, size + further) of fields (N, n): nearer to them than :meth:`project`."""
        return np.asarray(fields)[:, self.rows] @ self.vectors

    def reconstruct(self, coefficients: np.ndarray) -> np.ndarray:
        """Fields (N, n) of coefficients (N, size), or (N, size + further)."""
        out = np.zeros((len(coefficients), self.size_full))
        out[:, self.rows] = coefficients @ self.vectors[:, : coefficients.shape[1]].T
        return out

    def initial(self, case: GrowthCase, scores: Any, xp: Any = np) -> Any:
        """Coefficients (N, size) of the clipped initial fields; differentiable with ``xp=jnp``."""
        here = np.flatnonzero(case.occupied[self.rows])
        cells = self.rows[here]
        raw = xp.asarray(case.mean[cells]) + scores @ xp.asarray(case.modes[:, cells])
        return xp.clip(raw, 0.0, 1.0) @ xp.asarray(self.moving[here])

    def inputs(
        self, case: GrowthCase, theta: Any, xp: Any = np, amplitude: Any = None
    ) -> tuple[Any, GrowthInputs, Any]:
        """Initial coefficients (N, size), what drives the members, the drug's final amplitude (N,)."""
        values = case.values(theta, xp)
        level = xp.zeros(theta.shape[0]) if amplitude is None else amplitude
        first, second, final = drug_integrals(
            values.alpha_drug, values.beta_drug, case.timeline.dt, case.timeline.drug_jump, level
        )
        driven = GrowthInputs(
            harmonic(values.diffusivity, case.faces.groups, xp),
            values.growth,
            first,
            second,
            values.exposure_weight,
            case.log_survival(values),
        )
        return self.initial(case, values.initial, xp), driven, final

    def every_step(self, case: GrowthCase, theta: Any, xp: Any = np) -> tuple[Any, Any, Any]:
        """Coefficients after every padded step (S, N, size) of the ``case``'s own timeline (see :func:`stepped`),
        at the start (N, size), and status (N,)."""
        a0, driven, _ = self.inputs(case, theta, xp)
        states, _, status = propagate(
            self.operators, a0, driven, case.timeline.dt, self.limit, self.substeps, self.saturation
        )
        return states, a0, status

    def run(self, case: GrowthCase, theta: Any, xp: Any = np) -> tuple[Any, Any]:
        """Coefficients at the visits and the status.

        Parameters
        ----------
        case : GrowthCase
            Its timeline may differ from the training's.
        theta : array, shape (N, p)
        xp : numpy or jax.numpy
            ``jax.numpy`` inside a traced function.

        Returns
        -------
        coefficients : array, shape (N, V, size)
        status : array of int, shape (N,)
            A code of :data:`~vvuq_twin.reduction.propagate.STATUS`.
        """
        case = stepped(case, self.longest)
        states, a0, status = self.every_step(case, theta, xp)
        out = jnp.transpose(at_visits(case, states, a0), (1, 0, 2))
        return (np.asarray(out), np.asarray(status)) if xp is np else (out, status)


def stepped(case: GrowthCase, longest: float) -> GrowthCase:
    """The case on the fewest steps, none longer than ``longest`` days, that end on all its events."""
    edges = () if case.noise is None else case.noise.edges
    return case.on(coarser(case.timeline, longest, edges))


def cheapest_steps(case: GrowthCase, longest: float, rate: float) -> tuple[float, int]:
    """Longest step (days) and Runge-Kutta steps in it, stable for a diffusion of this rate (1/day), with the
    least work: many events ask for short steps anyway, where splitting all steps would be waste."""
    found = []
    for share in (1.0, 1.5, 2.0, 3.0, 4.0):
        line = stepped(case, longest / share).timeline
        substeps = max(1, int(np.ceil(rate * float(line.dt.max()) / 2.4)))
        found.append((line.used * substeps, share, substeps))
    _, share, substeps = min(found)
    return longest / share, substeps


def at_visits(case: GrowthCase, states: Any, a0: Any) -> Any:
    """The states (V, N, ...) at the visits, from those after every step (S, N, ...) and the initial one."""
    steps = np.zeros(len(case.timeline.visits), dtype=int)
    for s, v in enumerate(case.timeline.visit):
        if v >= 0:
            steps[v] = s
    out = states[steps]
    if case.timeline.initial_visit >= 0:
        out = out.at[case.timeline.initial_visit].set(a0)
    return out


def build(
    case: GrowthCase,
    snapshots: list[Snapshots],
    tolerance: float = 2e-4,
    max_rank: int = 80,
    stiffest: float = 0.0,
    longest: float = 1.0,
    points: int = 0,
    seed: int = 0,
    further: int = 0,
) -> ReducedGrowth:
    """Basis and operators from the snapshots of all batches.

    Parameters
    ----------
    case : GrowthCase
    snapshots : list of Snapshots
        In a fixed order, whatever order the batches finished in.
    tolerance : float
        Relative energy of the (normalised) snapshots that the basis may leave out.
    max_rank : int
    stiffest : float
        Largest conductance (mm2/day) for which the time steps must stay stable; the training's
        largest if smaller.
    longest : float
        Longest step, days.
    points : int
        Voxels per mode at which the growth law's loss is taken (:func:`~vvuq_twin.reduction.cubature.fitted_loss`);
        0 for the exact tensor of logistic growth.
    seed : int
        For the choice of the voxels.
    further : int
        Most basis vectors kept beyond ``max_rank`` to hold fields of the full order.

    Returns
    -------
    ReducedGrowth
        Without errors: :func:`~vvuq_twin.reduction.validation.validate` measures them.
    """
    rows = np.unique(np.concatenate([s.rows for s in snapshots]))
    values = np.zeros((sum(len(s.values) for s in snapshots), len(rows)))
    at = 0
    for s in snapshots:
        values[at : at + len(s.values), np.searchsorted(rows, s.rows)] = s.values
        at += len(s.values)
    basis = pod(values, tolerance, max_rank + further)
    rank = min(basis.rank, max_rank)
    exposure = None if case.exposure is None else case.exposure[rows]
    vectors, omega = rotate_to_exposure(basis.vectors[:, :rank], exposure)
    fitted = None
    logistic = case.saturation == 1.0
    if not logistic or (points and rank > 2 * points):
        small = values @ vectors
        ends = np.cumsum([0, *(len(s.values) for s in snapshots)])
        states = np.concatenate([s.mix @ small[a:b] for s, a, b in zip(snapshots, ends, ends[1:])])
        wanted = (points or POINTS) * padded(rank)
        # from fewer states than voxels nothing can be learnt; only the square has an exact form to turn to
        if not logistic:
            wanted = min(wanted, len(states), len(rows))
        if len(states) >= wanted:
            fitted = fitted_loss(vectors, states, wanted, seed, case.saturation)
    operators = project(vectors, case.faces.sparse_terms(), rows, omega, fitted)
    wide = np.zeros((len(rows), padded(rank) + basis.rank - rank))
    wide[:, :rank] = vectors
    wide[:, padded(rank) :] = basis.vectors[:, rank:]
    longest, substeps = cheapest_steps(case, longest, float(operators.spectral) * stiffest)
    return ReducedGrowth(
        rank=rank,
        rows=rows,
        vectors=wide,
        operators=operators,
        limit=3.0 * max(s.largest for s in snapshots),
        longest=longest,
        substeps=substeps,
        saturation=case.saturation,
        size_full=case.faces.n,
        singular_values=basis.singular_values,
        fingerprint=fingerprint(case, tolerance, max_rank, longest, points, seed, further),
    )
