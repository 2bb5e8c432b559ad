"""The forward model as everyone above sees it: one contract for the full and the reduced order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..domain.errors import BadInput
from ..domain.parameters import ParameterSpace
from ..physics.timeline import SAME_TIME, Timeline


@dataclass(frozen=True)
class State:
    """N members at one time.

    Parameters
    ----------
    values : ndarray, shape (N, n) or (N, r)
        Fields of the full order, or coefficients of the reduced.
    amplitude : ndarray, shape (N,)
        What is left of the drug's earlier doses.
    status : ndarray of int, shape (N,)
        0 good; other codes are the model's.
    time : float
        Days.
    """

    values: np.ndarray
    amplitude: np.ndarray
    status: np.ndarray
    time: float


@dataclass(frozen=True)
class Trajectory:
    """N members at V visits.

    Parameters
    ----------
    values : ndarray, shape (N, V, n) or (N, V, r)
    status : ndarray of int, shape (N,)
    times : ndarray, shape (V,)
        Days.
    """

    values: np.ndarray
    status: np.ndarray
    times: np.ndarray


class Fields(Protocol):
    """Fields of N members, read in parts so that they are never all in memory."""

    @property
    def members(self) -> int: ...

    def at(self, cells: np.ndarray) -> np.ndarray:
        """Values (N, c) at active voxels."""

    def blocks(self, least: float = 0.0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of active voxels (b,) and values (N, b); voxels that never appear are zero, or below ``least``
        in every member."""


class Operator(Protocol):
    """What an instrument or a question makes of the fields."""

    def __call__(self, fields: Fields, theta: np.ndarray) -> np.ndarray:
        """Predictions (N, m)."""


class ForwardModel(Protocol):
    """A model of the patient, batched over members; a failed member is a status code and finite values."""

    @property
    def space(self) -> ParameterSpace: ...

    def initial(self, theta: np.ndarray, conditioning: Any = None, key: Any = None) -> State:
        """The state at the start. ``conditioning`` is a mapping of state entries to replace; ``key`` is not
        used by models whose process noise is among the parameters."""

    def propagate(
        self,
        state: State,
        theta: np.ndarray,
        t0: float,
        t1: float,
        events: Timeline | None = None,
        key: Any = None,
    ) -> tuple[State, np.ndarray]:
        """The state at t1 before what happens at t1, and the status (N,)."""

    def observe(self, state: State, theta: np.ndarray, operator: Operator) -> np.ndarray:
        """Predicted observations (N, m)."""

    def trajectory(self, theta: np.ndarray) -> Trajectory:
        """All visits in one call."""

    def fields(self, values: np.ndarray) -> Fields:
        """Fields of values (N, n) or (N, r)."""


def segment(timeline: Timeline, t0: float, t1: float) -> Timeline:
    """The part of a timeline from t0 to t1, in arrays of the same length (nothing is compiled again).

    What happens at t0 is part of it, what happens at t1 is not: a state at t1 is one before its events.

    Raises
    ------
    BadInput
        If t0 or t1 is not the end of a step.
    """
    ends = timeline.t + timeline.dt
    for time in (t0, t1):
        if np.abs(ends - time).min() > 2 * SAME_TIME:
            raise BadInput(f"day {time:g} is not a step's end", "timeline", "make it a visit or a break")
    if t1 < t0 - SAME_TIME:
        raise BadInput(f"day {t1:g} is before day {t0:g}", "timeline")
    inside = (ends > t0 + 2 * SAME_TIME) & (ends <= t1 + 2 * SAME_TIME)
    happens = (ends >= t0 - 2 * SAME_TIME) & (ends < t1 - 2 * SAME_TIME)
    last = np.flatnonzero(inside)[-1:] if inside.any() else np.zeros(0, dtype=int)
    visit = np.full(timeline.steps, -1, dtype=np.int64)
    visit[last] = 0
    return Timeline(
        timeline.t,
        np.where(inside, timeline.dt, 0.0),
        np.where(happens, timeline.drug_jump, 0.0),
        np.where(happens, timeline.dose, 0.0),
        np.where(happens, timeline.dose_sq, 0.0),
        visit,
        -1 if len(last) else 0,
        np.array([t1]),
    )
