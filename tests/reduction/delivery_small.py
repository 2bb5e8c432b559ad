"""A small tumour on millimetre voxels, where the flow at its rim matters; the reduced model trained once."""

from __future__ import annotations

from functools import cache

import numpy as np

from vvuq_twin.domain.grid import Grid
from vvuq_twin.kinetics.plasma import Dose
from vvuq_twin.physics.agents import load_agent
from vvuq_twin.physics.site import delivery_site
from vvuq_twin.reduction.delivery import ReducedDelivery
from vvuq_twin.reduction.delivery_build import DeliveryTraining, build_delivery, training_runs
from vvuq_twin.reduction.delivery_case import DeliveryCase, delivery_space
from vvuq_twin.reduction.delivery_validation import Judged, validate_delivery
from vvuq_twin.reduction.flow import FlowBasis
from vvuq_twin.reduction.training import training_parameters

SPREAD = {
    "K_tumour": 0.3, "K_normal": 0.3, "Lp_tumour": 0.3, "Lp_normal": 0.3, "P_drug": 0.3, "P_bound": 0.3, "D_drug": 0.3,
    "tissue_free_to_cell_vmax": 0.3, "tissue_free_to_cell_half_in": 0.3, "central_to_out": 0.3, "volume": 0.3,
}  # fmt: skip
HOW = DeliveryTraining(modes=24, records=24)


@cache
def small_case(subgrid: bool = True) -> DeliveryCase:
    """A lump without symmetry, its vessels denser on one side."""
    grid = Grid((9, 8, 7), (1.0, 1.0, 1.0))
    x, y, z = np.meshgrid(*grid.centres(), indexing="ij")
    tumour = ((x - 3.7) / 2.4) ** 2 + ((y - 3.6) / 2.2) ** 2 + ((z - 3.1) / 2.0) ** 2 < 1.0
    organ = x + y + z < 17.0
    perfusion = 1.0 + 0.6 * np.sin(0.8 * x) * np.cos(0.5 * y)
    ve = 0.35 + 0.1 * np.cos(0.6 * z)
    site = delivery_site(grid, organ, tumour, 20.0, perfusion, ve)
    agent = load_agent("doxorubicin")
    doses = (Dose(0.0, 90.0, duration=0.25),)
    times = np.array([0.25, 1.0, 4.0, 12.0, 48.0])
    return DeliveryCase(site, agent, doses, times, delivery_space(site, agent, SPREAD), subgrid)


@cache
def small_judged() -> Judged:
    """Six unseen members."""
    case, (model, _) = small_case(), small_model()
    return validate_delivery(model, case, case.space.sample(6, 5, "unseen"))


@cache
def small_model() -> tuple[ReducedDelivery, FlowBasis]:
    """Trained on 24 full-order runs."""
    case = small_case()
    theta = training_parameters(case.space, 24, 3)
    return build_delivery(case, theta, training_runs(case, theta, HOW), HOW)
