"""A drug's delivery in two orders behind one contract: one species at the output times, for whole ensembles.

Pressure, flow, solvent drag, several moving species, saturable uptake: :mod:`~vvuq_twin.reduction.delivery_case`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..domain.errors import BadInput, near
from ..domain.parameters import ParameterSpace
from ..physics.agents import FREE
from ..reduction.backend import jnp
from ..reduction.delivery import ReducedDelivery
from ..reduction.delivery_case import DeliveryCase
from ..reduction.estimate import Scale
from .model import Trajectory
from .observe import FullFields
from .trust import Trust, outside_range


@dataclass(frozen=True)
class FullOrderDelivery:
    """On all voxels.

    Parameters
    ----------
    case : DeliveryCase
    dt_max : float or tuple of float
        Longest splitting step, hours, or one up to each output time.
    species : str
        Whose amounts the trajectory holds.
    change : float
        Tolerance of the saturable kinetics, see :func:`~vvuq_twin.physics.transport.transport`.

    Raises
    ------
    BadInput
        If the agent has no such species.
    """

    case: DeliveryCase
    dt_max: float | tuple[float, ...]
    species: str = FREE
    change: float = 0.005

    def __post_init__(self) -> None:
        _number(self.case, self.species)

    @property
    def space(self) -> ParameterSpace:
        return self.case.space

    def trajectory(self, theta: np.ndarray) -> Trajectory:
        """Amounts per volume of tissue, values (N, T, n); a member that fails has a code and zeros."""
        run = self.case.full(theta, self.dt_max, self.change)
        return Trajectory(run.amount[:, :, _number(self.case, self.species)], run.status, run.times)

    def fields(self, values: np.ndarray) -> FullFields:
        """Fields of values (N, n)."""
        return FullFields(values)


@dataclass(frozen=True)
class ReducedDeliveryTwin:
    """The same on the reduced model.

    Parameters
    ----------
    case : DeliveryCase
    model : ReducedDelivery
    species : str
    scale : Scale, optional
        The calibrated error estimate of the model's validation.

    Raises
    ------
    BadInput
        If model and case are of different sites, times or doses, or the agent has no such species.
    """

    case: DeliveryCase
    model: ReducedDelivery
    species: str = FREE
    scale: Scale | None = None

    def __post_init__(self) -> None:
        self.model.require(self.case)
        _number(self.case, self.species)

    @property
    def space(self) -> ParameterSpace:
        return self.case.space

    def trajectory(self, theta: np.ndarray) -> Trajectory:
        """Coefficients of the species at the output times, values (N, T, r)."""
        amount, status = self.model.run(self.case, np.asarray(theta, dtype=float))
        values = self.model.coefficients(amount, _number(self.case, self.species))
        return Trajectory(values, status, np.asarray(self.case.times))

    def fields(self, values: np.ndarray) -> FullFields:
        """Fields of coefficients (N, r)."""
        return FullFields(values @ self._readout().T)

    def error_estimate(self, theta: np.ndarray) -> np.ndarray:
        """Estimated relative L2 error inside the tumour, all species, (N, T); infinite for a member that failed.

        Raises
        ------
        BadInput
            If the twin has no calibrated scale.
        """
        if self.scale is None:
            raise BadInput(
                "the reduced delivery has no calibrated error estimate", "reduced delivery",
                "give it the scale of its validation",
            )  # fmt: skip
        _, status, indicator = self.model.indicate(self.case, np.asarray(theta, dtype=float))
        estimate = self.scale(indicator, np.asarray(self.case.times) / 24.0)
        return np.where(status[:, None] == 0, estimate, np.inf)

    def trust(self, theta: np.ndarray, tolerance: float = 1e-3) -> Trust:
        """Which members to trust, and why not the others."""
        estimate = self.error_estimate(theta).max(axis=1)
        failed = int((~np.isfinite(estimate)).sum())
        return Trust(estimate, tolerance, outside_range(self.space, theta), failed)

    def mean_amount(self, region: np.ndarray) -> Callable[[Any], Any]:
        """A JAX function from parameters to the mean amount over a region at the output times.

        Parameters
        ----------
        region : ndarray of bool or int
            Active voxels, the tumour for example.

        Returns
        -------
        callable
            ``f(theta)`` of shape (p,) to (T,), or (N, p) to (N, T): unit of amount per L of tissue.
        """
        which = _number(self.case, self.species)
        readout = self._readout()[region].mean(axis=0)

        def evaluate(theta: Any) -> Any:
            theta = jnp.asarray(theta)
            many = theta[None, :] if theta.ndim == 1 else theta
            amount, _ = self.model.run(self.case, many, jnp)
            out = self.model.coefficients(amount, which, jnp) @ readout
            return out[0] if theta.ndim == 1 else out

        return evaluate

    def _readout(self) -> np.ndarray:
        """Amounts per volume of tissue from coefficients, (n, r)."""
        which = _number(self.case, self.species)
        basis = self.model.bases[which]
        return self.model.phi[:, None] * basis if which < len(self.model.moved) else basis


def _number(case: DeliveryCase, species: str) -> int:
    if species not in case.drug.names:
        raise BadInput(
            f"{case.agent.name} has no species '{species}'", "delivery", near(species, case.drug.names)
        )
    return case.drug.names.index(species)
