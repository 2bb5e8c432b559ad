"""A drug delivered to a tumour: interstitial pressure, plasma kinetics and transport around it, full order.

The tumour and the tissue round it (to a reach) are two tissues with the fluid properties and the agent's
numbers of their names, "tumour" and "normal". Where the domain is cut inside the organ the pressure is the
far-field one; the organ's own edge (fluid spaces, bone, air) is closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ..domain.errors import BadInput
from ..domain.grid import Grid
from ..kinetics.plasma import Course, Dose
from ..physics.agents import Agent
from ..physics.drug import Drug
from ..physics.faces import Faces, assemble
from ..physics.interstitium import FluidTissue, Interstitium, load_fluid_tissues
from ..physics.pressure import Boundary, Flow, interstitial_flow, point_infusion
from ..physics.tissue import Tissue
from ..physics.transport import Transported, transport

#: Names of the two tissues, in the library's files.
TUMOUR, NORMAL = "tumour", "normal"


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
    organ, tumour = np.asarray(organ, dtype=bool), np.asarray(tumour, dtype=bool)
    if organ.shape != tuple(grid.shape) or tumour.shape != tuple(grid.shape):
        raise BadInput("the organ or the tumour mask is not on the grid", "delivery", "resample them")
    if not (organ & tumour).any():
        raise BadInput("the tumour mask is empty or touches nothing of the organ", "delivery")
    inside = organ & tumour
    near = ndimage.distance_transform_edt(~inside, sampling=grid.spacing) <= reach
    table = load_fluid_tissues() if tissues is None else tissues
    faces = assemble(grid, organ & near, np.where(inside, 1, 2), {TUMOUR: 1, NORMAL: 2})
    fluid = Interstitium.of(faces, table)
    tissue = Tissue.of(faces, table)
    if perfusion is not None:
        factor = _relative(faces, perfusion)
        fluid = replace(fluid, filtration=fluid.filtration * factor)
        assert tissue.surface is not None
        tissue = replace(tissue, surface=tissue.surface * factor)
    if interstitium is not None:
        ve = faces.gather(interstitium)
        good = np.isfinite(ve) & (ve > 0) & (ve <= 1)
        tissue = replace(tissue, phi=np.where(good, ve, tissue.phi))
    boundary = Boundary(array="far", labels={1: "far", 0: None}, outside=organ.astype(int))
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


def _relative(faces: Faces, perfusion: np.ndarray) -> np.ndarray:
    """Local over mean perfusion in the tumour, 1 elsewhere and where it is unknown, shape (n,)."""
    local = faces.gather(perfusion)
    good = np.isfinite(local) & (local >= 0) & (faces.label == 0)
    if not good.any() or local[good].mean() <= 0:
        raise BadInput(
            "the perfusion map has no usable voxel in the tumour", "delivery", "leave it out or mend it"
        )
    return np.where(good, np.divide(local, local[good].mean(), where=good, out=np.ones_like(local)), 1.0)


def _check(catheter: Catheter) -> None:
    values = (catheter.rate, catheter.concentration, catheter.start, catheter.end)
    if not np.isfinite(values).all() or catheter.concentration < 0:
        raise BadInput("the catheter's rate, concentration or times are not finite or negative", "catheter")
    if catheter.end <= catheter.start:
        raise BadInput("the infusion ends before it starts", "catheter", "swap the times")
