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
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..kinetics.plasma import Dose
from .backend import jax, jnp
from .delivery_case import DeliveryCase
from .delivery_online import BAD_PARAMETER, OTHER_SCHEDULE, Moved, Nodes, run_members
from .delivery_schedule import STRETCH, scheduled_steps
from .expm import squarings
from .flow import ReducedFlow
from .schedule import Schedule
from .timegrid import Steps, TimeGrid

#: Members that are run at once: their matrices stay in the second cache.
BATCH = 16


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
    fingerprint : str
        Hash of what it was built from.
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
    fingerprint: str = ""
    _programs: dict[tuple[int, bool, bool], tuple[DeliveryCase, Callable[[Any, Steps], Any]]] = field(
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
            jax.numpy inside a traced function (all members at once); numpy gives numpy arrays back.

        Returns
        -------
        amount : array, shape (N, T, s, k)
            Finite for every member; zero for one that could not start.
        status : array of int, shape (N,)
        """
        if xp is not np:
            self.require(case)
            found = self._program(case, False, True)(jnp.asarray(theta, dtype=float), self._steps())
            return found[0], found[1]
        amount, status = self._batched(case, theta, False)
        return amount, status

    def follow(self, case: DeliveryCase, theta: Any, schedule: Schedule, xp: Any = np) -> tuple[Any, Any]:
        """The same for doses and output times that are data, of the form of the case's.

        As many doses, to the same compartments and by infusion where the case's are, in the same order; what falls
        together in the case (an output at an infusion's end) does so here; no interval more than twice as long. A schedule
        of another form has the status ``OTHER_SCHEDULE`` for all members. Steps stretch with their intervals
        (:mod:`~vvuq_twin.reduction.delivery_schedule`): amounts, times and durations have derivatives, and a new
        schedule runs the same program.

        Returns
        -------
        amount, status
            As of :meth:`run`.
        """
        self.require(case)
        steps, form = scheduled_steps(case, self.grid, schedule)
        if xp is not np:
            amount, status = self._program(case, False, True)(jnp.asarray(theta, dtype=float), steps)
        else:
            amount, status = self._batched(case, theta, False, steps)
        return amount, xp.where(xp.asarray(form), status, OTHER_SCHEDULE)

    def indicate(self, case: DeliveryCase, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same with an indicator (N, T) of the relative error inside the tumour, not calibrated.

        At a node the kinetics are the full order's, so the full order's residual there is what the projection leaves
        out of the transport. Over the amount of all species and added up over time it is one part of the
        indicator, the part of the free drug at the nodes that the basis does not span the other.

        Returns
        -------
        amount, status, indicator
        """
        amount, status, indicator = self._batched(case, theta, True)
        return amount, status, indicator

    def _steps(self) -> Steps:
        """The model's own."""
        return Steps(*(jnp.asarray(part) for part in self.grid.steps))

    def _batched(
        self, case: DeliveryCase, theta: np.ndarray, estimate: bool, steps: Steps | None = None
    ) -> list[np.ndarray]:
        """Members in batches of one shape: flat memory, one program, the same numbers for any number of members."""
        self.require(case)
        theta = np.asarray(theta, dtype=float)
        steps = self._steps() if steps is None else steps
        program, found = self._program(case, estimate, False), []
        for start in range(0, max(1, len(theta)), BATCH):
            part = theta[start : start + BATCH]
            padding = np.broadcast_to(_medians(case), (BATCH - len(part), case.space.size))
            some = program(jnp.asarray(np.concatenate([part, padding])), steps)
            found.append([np.asarray(x)[: len(part)] for x in some])
        return [np.concatenate(parts) for parts in zip(*found)]

    def _program(self, case: DeliveryCase, estimate: bool, looped: bool) -> Callable[[Any, Steps], Any]:
        """The compiled run of a case."""
        kept = self._programs.get((id(case), estimate, looped))
        if kept is None:
            safe, halvings = _medians(case), _halvings(case, self.grid)
            # the case is kept too: its id must not be given to another
            run = jax.jit(partial(run_members, self, case, safe, halvings, estimate, looped))
            kept = self._programs[id(case), estimate, looped] = (case, run)
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


def _medians(case: DeliveryCase) -> np.ndarray:
    """Harmless values for members that cannot run, so that neither values nor gradients are spoilt."""
    return np.asarray(case.space.from_gaussian(np.zeros((1, case.space.size))))[0]


def _halvings(case: DeliveryCase, grid: TimeGrid) -> int:
    """Of the plasma's exponentials: four standard deviations up, over the longest step of any schedule."""
    far = case.inputs(np.asarray(case.space.from_gaussian(np.full((1, case.space.size), 4.0))))
    return squarings(float(np.abs(far.plasma[0]).sum(axis=0).max() * STRETCH * grid.interval.max()))


__all__ = ["BAD_PARAMETER", "BATCH", "OTHER_SCHEDULE", "Moved", "Nodes", "ReducedDelivery"]
