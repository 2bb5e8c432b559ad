"""The drug's exposure map, from the perfusion scan through plasma kinetics and transport in tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..domain.errors import BadInput
from ..imaging.series import ScanSeries
from ..kinetics.plasma import Dose
from ..physics.agents import Agent, load_agent
from ..physics.faces import Faces, assemble
from ..physics.tissue import Tissue
from ..physics.transport import transport
from ..twin.delivery import deliver

#: Transport is solved this far around the tumour (mm); beyond, exchange and loss balance locally.
REACH = 20.0
#: Hours after which all of a dose is gone, and the longest splitting step.
HORIZON, STEP = 24.0, 0.25
#: Longest steps to 1 h, 4 h and the horizon with saturable kinetics.
FINE = (1.0 / 30.0, 1.0 / 15.0, STEP)


@dataclass(frozen=True)
class Exposure:
    """A unit dose's exposure.

    Parameters
    ----------
    weight : ndarray, grid.shape
        Area under the interstitial concentration over its mean in the tumour.
    ratio : float
        Mean of that area in the tumour over the area under the plasma concentration.
    balance : float
        Relative error of the mass balance of the transport run.
    faces : Faces
        The region transport was solved in.
    tissue : Tissue
    agent : Agent
    """

    weight: np.ndarray
    ratio: float
    balance: float
    faces: Faces
    tissue: Tissue
    agent: Agent

    @property
    def reducible(self) -> bool:
        """Whether the reduced transport model can carry it: linear kinetics of one moving species, no pressure."""
        return self.tissue.flow is None and self.agent.linear


def exposure_map(series: ScanSeries) -> Exposure | None:
    """Exposure of the tumour to the patient's drug, or None without a drug or a perfusion scan.

    The tumour is frozen as it was at the first visit: the kinetics of a dose are over within a day.

    Raises
    ------
    BadInput
        If the agent is not in the library, or the maps have no finite positive voxel in the tumour.
    """
    if series.perfusion is None or not series.treatments.drug_doses:
        return None
    agent = load_agent(series.treatments.agent)
    tumour = series.visits[0].tumour & series.brain
    if agent.tissue.permeability is not None:
        return _by_pressure(series, agent, tumour)
    near = ndimage.distance_transform_edt(~tumour, sampling=series.grid.spacing) <= REACH
    names = {name: label for label, name in series.labels.items()}
    faces = assemble(series.grid, series.brain & near, series.tissue, names)
    good = np.isfinite(series.perfusion.ktrans) & (series.perfusion.ktrans >= 0)
    if not (good & tumour).any():
        raise BadInput(
            "the ktrans map has no usable voxel in the tumour", "perfusion", "leave it out or mend it"
        )
    ktrans = 60.0 * _filled(series.perfusion.ktrans, good)
    known = np.isfinite(series.perfusion.ve) & (series.perfusion.ve > 0) & (series.perfusion.ve <= 1)
    phi = _filled(series.perfusion.ve, known) if known.any() else np.full(series.grid.shape, 0.2)
    tissue = Tissue(faces, faces.gather(ktrans), faces.gather(phi))
    drug = agent.drug(list(faces.names))
    route = "oral" if "oral" in agent.routes else "intravenous"
    plan = agent.course([Dose(0.0, 1.0, agent.compartment(route))], HORIZON)
    run = transport(tissue, drug, plan, np.array([HORIZON]), STEP)
    area = faces.scatter(run.exposure[0, 0] / tissue.phi)
    loss = max(float(-drug.reactions.sum(axis=0)[0]), 1e-9)
    plasma_area = float(plan.total_exposure()) * drug.unbound(plan)
    local = plasma_area * ktrans / (ktrans + loss * phi)
    area = np.where(series.brain & near, area, local)
    mean = float(area[tumour].mean())
    weight = np.where(series.brain, area / mean, 0.0)
    return Exposure(
        weight, mean / plasma_area, float(np.abs(run.balance.residual).max()), faces, tissue, agent
    )


def _by_pressure(series: ScanSeries, agent: Agent, tumour: np.ndarray) -> Exposure:
    """An agent that crosses vessels by its own permeability: with interstitial pressure and flow.

    Its kinetics may be saturable, so it is run at the mean of the doses that were given.
    """
    assert series.perfusion is not None
    known = np.isfinite(series.perfusion.ktrans) & (series.perfusion.ktrans >= 0)
    if not (known & tumour).any():
        raise BadInput(
            "the ktrans map has no usable voxel in the tumour", "perfusion", "leave it out or mend it"
        )
    dose = float(np.mean([amount for _, amount in series.treatments.drug_doses]))
    route = "oral" if "oral" in agent.routes else "intravenous"
    given = [Dose(0.0, dose, agent.compartment(route))]
    found = deliver(
        series.grid, series.brain, tumour, agent, given, np.array([1.0, 4.0, HORIZON]), FINE, REACH,
        series.perfusion.ktrans, series.perfusion.ve,
    )  # fmt: skip
    faces, tissue = found.faces, found.tissue
    local = found.run.exposure[-1, 0] / tissue.phi
    # beyond the reach the tissue is as it is far from the tumour
    area = np.full(
        series.grid.shape, float(np.median(local[~found.tumour])) if (~found.tumour).any() else 0.0
    )
    area[faces.mask] = local
    mean = float(area[tumour].mean())
    plasma_area = float(found.plan.total_exposure()) * found.drug.unbound(found.plan)
    balance = float(np.abs(found.run.ledger.residual).max())
    weight = np.where(series.brain, area / mean, 0.0)
    return Exposure(weight, mean / plasma_area, balance, faces, tissue, agent)


def _filled(field: np.ndarray, good: np.ndarray) -> np.ndarray:
    """The field with bad voxels replaced by the nearest good one."""
    if good.all():
        return field
    nearest = ndimage.distance_transform_edt(~good, return_distances=False, return_indices=True)
    return field[tuple(nearest)]
