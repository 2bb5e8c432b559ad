"""A surrogate of fields behind the contract of the forward model, and its training from any such model.

A surrogate is a map from parameters to fields at given times under one schedule. It therefore serves whoever runs members
from the start (forecasts, smoothers with a strong constraint, sensitivity, multi-fidelity); it cannot go on from a
state that was changed on the way, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.parameters import ParameterSpace
from ..physics.timeline import SAME_TIME, Timeline
from ..reduction.surrogate import NOT_OWN, OK, FieldSurrogate, fit_surrogate
from ..reduction.surrogate_fits import Fitter
from ..reduction.surrogate_runs import RunBatch, TrainingRuns, compress_runs, join_runs
from .model import ForwardModel, Operator, State, Trajectory
from .observe import ReducedFields

Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


def _serial(task: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    return [task(x) for x in items]


def _run(model: ForwardModel, z: np.ndarray) -> tuple[RunBatch, np.ndarray, int]:
    found = model.trajectory(np.asarray(model.space.from_gaussian(z)))
    return compress_runs(z, found.values, found.status), found.times, int(found.values.shape[2])


def training_runs(
    model: ForwardModel,
    z: np.ndarray,
    tolerance: float = 1e-4,
    max_rank: int = 100,
    batch: int = 4,
    mapper: Mapper = _serial,
) -> tuple[TrainingRuns, np.ndarray, int]:
    """Run a model that returns whole fields, in batches, and put its good runs on one basis.

    Parameters
    ----------
    model : ForwardModel
        Its trajectories' values are fields (N, V, n): a full order.
    z : ndarray, shape (N, p)
        Whitened scores, of :func:`~vvuq_twin.reduction.surrogate_runs.training_scores`.
    tolerance : float
        Relative energy of the snapshots that the basis may leave out.
    max_rank, batch : int
    mapper : callable
        ``mapper(function, items)`` gives the results in the order of the items.

    Returns
    -------
    runs : TrainingRuns
        ``runs.failed`` counts the runs that diverged and were left out.
    times : ndarray, shape (V,)
    size : int
        Voxels n.

    Raises
    ------
    RunFailed
        If more than half of the runs failed.
    """
    parts = [z[i : i + batch] for i in range(0, len(z), batch)]
    found = list(mapper(partial(_run, model), parts))
    return join_runs([b for b, _, _ in found], tolerance, max_rank), found[0][1], found[0][2]


def train_surrogate(
    model: ForwardModel, z: np.ndarray, fitter: Fitter, tolerance: float = 1e-4, max_rank: int = 100, batch: int = 4,
    mapper: Mapper = _serial,
) -> SurrogateTwin:  # fmt: skip
    """:func:`training_runs`, then the regression; the arguments are theirs."""
    runs, times, size = training_runs(model, z, tolerance, max_rank, batch, mapper)
    return SurrogateTwin(fit_surrogate(model.space, runs, times, size, fitter))


@dataclass(frozen=True)
class SurrogateTwin:
    """A forward model that looks fields up.

    Parameters
    ----------
    model : FieldSurrogate
    """

    model: FieldSurrogate

    @property
    def space(self) -> ParameterSpace:
        return self.model.space

    def initial(
        self, theta: np.ndarray, conditioning: Mapping[str, Any] | None = None, key: Any = None
    ) -> State:
        """Coefficients at the first time; see :class:`~vvuq_twin.twin.model.ForwardModel`.

        Raises
        ------
        BadInput
            If the state is to be conditioned.
        """
        if conditioning:
            raise BadInput(
                "a surrogate cannot start from a given state",
                "surrogate",
                "use the reduced or the full order",
            )
        values, status = self.model.predict(theta)
        return State(values[:, 0], np.zeros(len(values)), status, float(self.model.times[0]))

    def propagate(
        self,
        state: State,
        theta: np.ndarray,
        t0: float,
        t1: float,
        events: Timeline | None = None,
        key: Any = None,
    ) -> tuple[State, np.ndarray]:
        """The state at t1; see :class:`~vvuq_twin.twin.model.ForwardModel`.

        A member whose state is not the surrogate's own at t0 is left as it is, with the status ``NOT_OWN``.

        Raises
        ------
        BadInput
            If a time is not one of the trained ones, or another schedule is given.
        """
        if events is not None:
            raise BadInput(
                "a surrogate knows one schedule only",
                "surrogate",
                "train it on this one, or use the reduced order",
            )
        start, end = self._place(t0), self._place(t1)
        values, status = self.model.predict(theta)
        scale = np.maximum(np.linalg.norm(values[:, start], axis=1), 1e-300)
        own = np.linalg.norm(state.values - values[:, start], axis=1) <= 1e-8 * scale
        code = np.where(state.status != OK, state.status, np.where(own, status, NOT_OWN))
        after = np.where((code == OK)[:, None], values[:, end], state.values)
        return State(after, state.amplitude, code, float(t1)), code

    def _place(self, time: float) -> int:
        """Number of a trained time."""
        near = int(np.abs(self.model.times - time).argmin())
        if abs(float(self.model.times[near]) - time) > 2 * SAME_TIME:
            known = ", ".join(f"{t:g}" for t in self.model.times)
            raise BadInput(
                f"day {time:g} is not one the surrogate was trained for", "surrogate", f"use one of {known}"
            )
        return near

    def observe(self, state: State, theta: np.ndarray, operator: Operator) -> np.ndarray:
        """Predicted observations (N, m)."""
        return operator(self.fields(state.values), theta)

    def trajectory(self, theta: np.ndarray) -> Trajectory:
        """All visits."""
        values, status = self.model.predict(np.asarray(theta, dtype=float))
        return Trajectory(values, status, self.model.times)

    def fields(self, values: np.ndarray) -> ReducedFields:
        """Fields of coefficients (N, r)."""
        return ReducedFields(self.model, values)

    def error_estimate(self, theta: np.ndarray) -> np.ndarray:
        """Cross-validated estimate (N, V); see
        :meth:`~vvuq_twin.reduction.surrogate.FieldSurrogate.error_estimate`."""
        return self.model.error_estimate(theta)
