"""The growth twin in its two orders: the same calls, the same parameters, the same schedule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.parameters import ParameterSpace
from ..physics.timeline import Timeline
from ..reduction.backend import jnp
from ..reduction.case import GrowthCase, GrowthValues
from ..reduction.estimate import Probe, Scale
from ..reduction.growth import ReducedGrowth, stepped
from ..reduction.guard import Guarded, run_guarded
from ..reduction.propagate import OK, drug_integrals, propagate
from ..reduction.validation import GRAVE, days_since_start, indicators
from .model import Fields, Operator, State, Trajectory, segment
from .observe import Burden, FullFields, ReducedFields
from .trust import Trust, outside_range


def _events(case: GrowthCase, events: Timeline | None, t0: float, t1: float) -> GrowthCase:
    """The case on the part of its own, or of a given, timeline."""
    return case.on(segment(case.timeline if events is None else events, t0, t1))


@dataclass(frozen=True)
class _GrowthOrder(ABC):
    """What both orders take from the case."""

    case: GrowthCase

    @property
    def space(self) -> ParameterSpace:
        return self.case.space

    @property
    def burden(self) -> Burden:
        """The operator for visible total cellularity and volume."""
        return Burden(self.case.n_detect, self.case.faces.grid.voxel_volume)

    def initial(
        self, theta: np.ndarray, conditioning: Mapping[str, Any] | None = None, key: Any = None
    ) -> State:
        """The clipped initial fields, or their coefficients; see :class:`~vvuq_twin.twin.model.ForwardModel`."""
        values = self._first(self.case.values(theta).initial)
        zero = np.zeros(len(theta))
        state = State(values, zero, zero.astype(int), self.case.timeline.t0)
        return replace(state, **conditioning) if conditioning else state

    def observe(self, state: State, theta: np.ndarray, operator: Operator) -> np.ndarray:
        """Predicted observations (N, m)."""
        return operator(self.fields(state.values), theta)

    @abstractmethod
    def fields(self, values: np.ndarray) -> Fields:
        """Fields of a state's values."""

    @abstractmethod
    def _first(self, scores: np.ndarray) -> np.ndarray:
        """Values at the start for scores (N, q) of the initial modes."""


@dataclass(frozen=True)
class FullOrderGrowth(_GrowthOrder):
    """The growth model on all voxels.

    Parameters
    ----------
    case : GrowthCase
    """

    def _first(self, scores: np.ndarray) -> np.ndarray:
        return self.case.initial(scores)

    def propagate(
        self,
        state: State,
        theta: np.ndarray,
        t0: float,
        t1: float,
        events: Timeline | None = None,
        key: Any = None,
    ) -> tuple[State, np.ndarray]:
        """See :class:`~vvuq_twin.twin.model.ForwardModel`."""
        part = _events(self.case, events, t0, t1)
        values = part.values(theta)
        out, status = state.values.copy(), state.status.copy()
        for i in np.flatnonzero(state.status == OK).tolist():
            jump = part.timeline.drug_jump.copy()
            jump[0] += state.amplitude[i]
            one = values.of(i)
            line = replace(part.timeline, drug_jump=jump)
            states, code = part.solve(state.values[i], one, line)
            out[i], status[i] = states[0, 0], code[0]
        return State(out, _amplitude(part, values, state.amplitude), status, float(t1)), status

    def trajectory(self, theta: np.ndarray) -> Trajectory:
        """All visits; the values take N x V x n x 8 bytes."""
        values = self.case.values(theta)
        start = self.case.initial(values.initial)
        states, status = self.case.solve(start, values)
        return Trajectory(states, status, self.case.timeline.visits)

    def fields(self, values: np.ndarray) -> FullFields:
        """Fields of values (N, n)."""
        return FullFields(values)


@dataclass(frozen=True)
class ReducedGrowthTwin(_GrowthOrder):
    """The growth model on a few dozen coefficients, with its error.

    Parameters
    ----------
    case : GrowthCase
        May have another schedule than the one trained for.
    model : ReducedGrowth
    probe : Probe, optional
        For :meth:`error_estimate`.

    Raises
    ------
    BadInput
        If model and case are of different domains.
    """

    model: ReducedGrowth
    probe: Probe | None = None

    def __post_init__(self) -> None:
        if self.model.size_full != self.case.faces.n:
            raise BadInput(
                f"the reduced model has {self.model.size_full} voxels, the patient {self.case.faces.n}",
                "reduced model",
                "train it again",
            )

    def _first(self, scores: np.ndarray) -> np.ndarray:
        return self.model.initial(self.case, scores)

    def propagate(
        self,
        state: State,
        theta: np.ndarray,
        t0: float,
        t1: float,
        events: Timeline | None = None,
        key: Any = None,
    ) -> tuple[State, np.ndarray]:
        """See :class:`~vvuq_twin.twin.model.ForwardModel`."""
        part = stepped(_events(self.case, events, t0, t1), self.model.longest)
        _, driven, level = self.model.inputs(part, theta, amplitude=state.amplitude)
        _, final, code = propagate(
            self.model.operators,
            state.values,
            driven,
            part.timeline.dt,
            self.model.limit,
            self.model.substeps,
            self.model.saturation,
        )
        status = np.where(state.status == OK, np.asarray(code), state.status)
        values = np.where((state.status == OK)[:, None], np.asarray(final), state.values)
        return State(values, np.asarray(level), status, float(t1)), status

    def trajectory(self, theta: np.ndarray) -> Trajectory:
        """All visits."""
        values, status = self.model.run(self.case, np.asarray(theta, dtype=float))
        return Trajectory(values, status, self.case.timeline.visits)

    def fields(self, values: np.ndarray) -> ReducedFields:
        """Fields of coefficients (N, r)."""
        return ReducedFields(self.model, values, self.model.size)

    def error_estimate(self, theta: np.ndarray) -> np.ndarray:
        """Estimated relative L2 error inside the tumour of each member at each visit, shape (N, V).

        Statistical: above the true worst-visit error with the probability ``errors["scale"]["level"]`` for
        parameters drawn as the validation's.

        Raises
        ------
        BadInput
            If the twin has no probe or the model was never validated.
        """
        scale = self._scale()
        assert self.probe is not None
        return scale(indicators(self.model, self.probe, self.case, theta), days_since_start(self.case))

    def _scale(self) -> Scale:
        if self.probe is None or "scale" not in self.model.errors:
            raise BadInput(
                "the reduced model has no calibrated error estimate", "reduced model", "validate it"
            )
        return Scale(**self.model.errors["scale"])

    def trust(self, theta: np.ndarray, tolerance: float = 0.01) -> Trust:
        """Members flagged by their error estimate, and how many lie outside the trained range.

        The estimate, not the range, decides: a member with one parameter far out may be good.

        Raises
        ------
        BadInput
            As :meth:`error_estimate`.
        """
        theta = np.asarray(theta, dtype=float)
        _, status = self.model.run(self.case, theta)
        estimate = np.where(np.asarray(status) == OK, self.error_estimate(theta).max(axis=1), np.inf)
        return Trust(
            estimate, tolerance, outside_range(self.space, theta), int((np.asarray(status) != OK).sum())
        )

    def qoi_error(self) -> np.ndarray:
        """Relative root-mean-square error of total cellularity and volume at each visit, (V, 2).

        The reduction's line of the uncertainty budget; add its square to the forecast's variance.
        """
        errors = self.model.errors
        return np.stack([np.asarray(errors["total_sd"]), np.asarray(errors["volume_sd"])], axis=1)

    def quantities(self, regions: Sequence[np.ndarray] = ()) -> Callable[[Any], Any]:
        """A JAX function from parameters to total cellularity and region means at every visit.

        Parameters
        ----------
        regions : sequence of ndarray of int
            Active voxels of each region whose mean cellularity is wanted.

        Returns
        -------
        callable
            ``f(theta)`` of shape (p,) to (V (1 + R),), or (N, p) to (N, V (1 + R)): per visit the total
            cellularity over all voxels (cm3 of full capacity), then the regions' means. Traceable and
            differentiable; a failed member's values are finite.
        """
        rows = [self.model.operators.total * (self.case.faces.grid.voxel_volume / 1000.0)]
        for cells in regions:
            where = np.searchsorted(self.model.rows, np.intersect1d(cells, self.model.rows))
            rows.append(self.model.moving[where].sum(axis=0) / len(cells))
        readout = np.array(rows).T

        def evaluate(theta: Any) -> Any:
            theta = jnp.asarray(theta)
            many = theta[None, :] if theta.ndim == 1 else theta
            coefficients, _ = self.model.run(self.case, many, jnp)
            out = (coefficients @ readout).reshape(many.shape[0], -1)
            return out[0] if theta.ndim == 1 else out

        return evaluate


@dataclass(frozen=True)
class GuardedGrowthTwin(ReducedGrowthTwin):
    """The reduced order with the full order behind it, for whole trajectories (:mod:`~vvuq_twin.reduction.guard`).

    Parameters
    ----------
    case, model, probe
        As for the reduced order; the model validated, the probe not left out.
    tolerance : float
        Estimated relative L2 error inside the tumour above which a member is run at full order.

    Raises
    ------
    BadInput
        As for the reduced order; if there is no probe or the model was never validated, or the tolerance is beyond what it
        was validated for.

    Notes
    -----
    :meth:`trust` and :meth:`error_estimate` remain those of the reduced order alone.
    """

    tolerance: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self._scale()
        most = GRAVE * self.model.errors["target"]
        if not 0 < self.tolerance <= most:
            raise BadInput(
                f"a tolerance of {self.tolerance:g} is not what the guard was calibrated for",
                "reduced model",
                f"give one above 0 and at most {most:g}, or train with another target",
            )

    def guarded(self, theta: np.ndarray) -> Guarded:
        """All visits of the members (N, p), and which order ran each."""
        assert self.probe is not None
        return run_guarded(self.model, self.probe, self.case, theta, self.tolerance)

    def trajectory(self, theta: np.ndarray) -> Trajectory:
        """All visits."""
        found = self.guarded(theta)
        return Trajectory(found.coefficients, found.status, self.case.timeline.visits)

    def qoi_error(self) -> np.ndarray:
        """As for the reduced order, with flagged members at full order."""
        errors = self.model.errors
        return np.stack(
            [np.asarray(errors["guarded_total_sd"]), np.asarray(errors["guarded_volume_sd"])], axis=1
        )


def _amplitude(part: GrowthCase, values: GrowthValues, level: np.ndarray) -> np.ndarray:
    """What is left of the drug at the end of the part, (N,)."""
    line = part.timeline
    return np.asarray(drug_integrals(values.alpha_drug, values.beta_drug, line.dt, line.drug_jump, level)[2])
