"""A drug delivered to a tumour: interstitial pressure, plasma kinetics and transport around it, full order.

Cells, maps and the pressure's boundary are those of :mod:`~vvuq_twin.physics.site`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..domain.errors import BadInput
from ..domain.grid import Grid
from ..kinetics.plasma import Course, Dose
from ..physics.agents import Agent
from ..physics.drug import Drug
from ..physics.faces import Faces
from ..physics.interstitium import FluidTissue
from ..physics.pressure import Flow, interstitial_flow, point_infusion
from ..physics.site import NORMAL, TUMOUR, delivery_site
from ..physics.tissue import Tissue
from ..physics.transport import Transported, transport


@dataclass(frozen=True)
class Catheter:
    """An infusion into the tissue (convection-enhanced delivery, or a slow intratumoural injection).

    Parameters
    ----------
    position : tuple of float
        mm from the centre of the grid's first voxel.
    rate : float
        mm3/h.
    concentration : float
        Of the free drug in it, the agent's unit of amount per L.
    start, end : float
        Hours.
    """

    position: tuple[float, float, float]
    rate: float
    concentration: float
    start: float
    end: float


@dataclass(frozen=True)
class Delivery:
    """What was solved, and what came out.

    Parameters
    ----------
    faces : Faces
    tissue : Tissue
        Without the catheter.
    flow : Flow
        Without the catheter.
    infused : Flow or None
        With it.
    drug : Drug
    plan : Course
    run : Transported
    """

    faces: Faces
    tissue: Tissue
    flow: Flow
    infused: Flow | None
    drug: Drug
    plan: Course
    run: Transported

    @property
    def tumour(self) -> np.ndarray:
        """Active cells in the tumour, bool (n,)."""
        return np.asarray(self.faces.label == self.faces.names.index(TUMOUR))


def deliver(
    grid: Grid,
    organ: np.ndarray,
    tumour: np.ndarray,
    agent: Agent,
    doses: Sequence[Dose],
    times: np.ndarray,
    dt_max: float | Sequence[float],
    reach: float = 20.0,
    perfusion: np.ndarray | None = None,
    interstitium: np.ndarray | None = None,
    catheter: Catheter | None = None,
    tissues: Mapping[str, FluidTissue] | None = None,
) -> Delivery:
    """Solve pressure, then transport.

    Parameters
    ----------
    grid : Grid
    organ, tumour : ndarray of bool, grid.shape
    agent : Agent
        With numbers for "tumour" and "normal", or one for all.
    doses : sequence of Dose
        Hours, into compartments of its plasma model.
    times : ndarray, shape (T,)
        Output times, hours.
    dt_max : float or sequence of float
        Longest splitting step, hours, see :func:`~vvuq_twin.physics.transport.transport`.
    reach : float
        mm of organ round the tumour that are solved.
    perfusion : ndarray, grid.shape, optional
        Ktrans or the like in any unit: in the tumour the vessels' surface is its table value times the local
        over the mean perfusion.
    interstitium : ndarray, grid.shape, optional
        ve: replaces the table's fraction where it is finite and positive.
    catheter : Catheter, optional
    tissues : mapping of str to FluidTissue, optional
        The library's by default.

    Raises
    ------
    BadInput
        If the tumour is empty, off the grid or outside the organ, or a map has no usable voxel in it.
    """
    site = delivery_site(grid, organ, tumour, reach, perfusion, interstitium, tissues)
    faces, fluid, tissue, boundary = site.faces, site.fluid(), site.tissue(), site.boundary
    flow = interstitial_flow(fluid, boundary, subgrid=True)
    base = replace(tissue, flow=flow)
    drug = agent.drug(faces.names)
    plan = agent.course(doses, float(np.max(times, initial=0.0)))
    infused = None
    stages: Tissue | list[tuple[float, Tissue]] = base
    if catheter is not None:
        _check(catheter)
        q = point_infusion(faces, catheter.position, catheter.rate)
        infused = interstitial_flow(fluid, boundary, q, subgrid=True)
        during = replace(tissue, flow=infused, supply=q * catheter.concentration)
        stages = [(-np.inf, base), (catheter.start, during), (catheter.end, base)]
    run = transport(stages, drug, plan, times, dt_max)
    return Delivery(faces, base, flow, infused, drug, plan, run)


def _check(catheter: Catheter) -> None:
    values = (catheter.rate, catheter.concentration, catheter.start, catheter.end)
    if not np.isfinite(values).all() or catheter.concentration < 0:
        raise BadInput("the catheter's rate, concentration or times are not finite or negative", "catheter")
    if catheter.end <= catheter.start:
        raise BadInput("the infusion ends before it starts", "catheter", "swap the times")


__all__ = ["NORMAL", "TUMOUR", "Catheter", "Delivery", "deliver"]
