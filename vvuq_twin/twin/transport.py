"""The drug in tissue, in two orders: amounts and exposure at the output times, for whole ensembles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.parameters import ParameterSpace
from ..reduction.backend import jnp
from ..reduction.schedule import Schedule
from ..reduction.transport import ReducedTransport
from ..reduction.transport_case import TransportCase
from .model import Trajectory
from .observe import FullFields


@dataclass(frozen=True)
class FullOrderTransport:
    """Plasma kinetics and tissue transport on all voxels.

    Parameters
    ----------
    case : TransportCase
    dt_max : float
        Longest step, hours.
    """

    case: TransportCase
    dt_max: float

    @property
    def space(self) -> ParameterSpace:
        return self.case.space

    def trajectory(self, theta: np.ndarray) -> Trajectory:
        """The free drug at the output times, values (N, T, n); a member that fails has a code and zeros."""
        run = self.case.full(theta, self.dt_max)
        return Trajectory(run.amount[:, :, 0], run.status, run.times)

    def exposure(self, theta: np.ndarray) -> np.ndarray:
        """Time integral of the free drug over all time, (N, n)."""
        return self.case.full_exposure(theta)

    def fields(self, values: np.ndarray) -> FullFields:
        """Fields of values (N, n)."""
        return FullFields(values)


@dataclass(frozen=True)
class ReducedTransportTwin:
    """The same on the reduced model.

    Parameters
    ----------
    case : TransportCase
    model : ReducedTransport

    Raises
    ------
    BadInput
        If model and case are of different domains.
    """

    case: TransportCase
    model: ReducedTransport

    def __post_init__(self) -> None:
        if len(self.model.vectors) != self.case.tissue.faces.n:
            raise BadInput(
                f"the reduced model has {len(self.model.vectors)} voxels, the tissue {self.case.tissue.faces.n}",
                "reduced transport",
                "train it again",
            )

    @property
    def space(self) -> ParameterSpace:
        return self.case.space

    def trajectory(self, theta: np.ndarray) -> Trajectory:
        """Coefficients of the free drug at the output times, values (N, T, r)."""
        amount, _, status = self.model.run(self.case, np.asarray(theta, dtype=float))
        return Trajectory(amount[:, :, 0], status, np.asarray(self.case.times))

    def exposure(self, theta: np.ndarray) -> np.ndarray:
        """Time integral of the free drug over all time, (N, n)."""
        return np.asarray(self.model.total_exposure(self.case, theta) @ self.model.vectors.T)

    def fields(self, values: np.ndarray) -> FullFields:
        """Fields of coefficients (N, r)."""
        return FullFields(values @ self.model.vectors.T)

    def mean_exposure(self, region: np.ndarray) -> Callable[[Any], Any]:
        """A JAX function from parameters to the mean exposure over a region.

        Parameters
        ----------
        region : ndarray of bool or int
            Active voxels, the tumour for example.

        Returns
        -------
        callable
            ``f(theta)`` of shape (p,) to (1,), or (N, p) to (N, 1): mean time integral of the free drug per
            volume of tissue, unit of amount h / L.
        """
        readout = self.model.vectors[region].mean(axis=0)

        def evaluate(theta: Any) -> Any:
            theta = jnp.asarray(theta)
            many = theta[None, :] if theta.ndim == 1 else theta
            out = (self.model.total_exposure(self.case, many, jnp) @ readout)[:, None]
            return out[0] if theta.ndim == 1 else out

        return evaluate

    def mean_amount(self, region: np.ndarray) -> Callable[[Any, Schedule], Any]:
        """A JAX function from parameters and a schedule to the mean amount of the free drug over a region.

        Parameters
        ----------
        region : ndarray of bool or int
            Active voxels, the tumour for example.

        Returns
        -------
        callable
            ``f(theta, schedule)`` of shape (p,) to (T,), or (N, p) to (N, T), at the schedule's output times: unit of amount
            per L of tissue. It has derivatives in the schedule's amounts, times and durations.
        """
        readout = self.model.vectors[region].mean(axis=0)

        def evaluate(theta: Any, schedule: Schedule) -> Any:
            theta = jnp.asarray(theta)
            many = theta[None, :] if theta.ndim == 1 else theta
            out = self.model.follow(self.case, many, schedule, jnp)[0][:, :, 0] @ readout
            return out[0] if theta.ndim == 1 else out

        return evaluate
