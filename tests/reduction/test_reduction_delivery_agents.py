"""Other agents and an uncertain perfusion map through the same reduced delivery: carriers, receptors, vessels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from delivery_small import small_case

from vvuq_twin.domain.parameters import ParameterSpace
from vvuq_twin.kinetics.plasma import Dose
from vvuq_twin.physics.agent_number import Number
from vvuq_twin.physics.agents import load_agent
from vvuq_twin.reduction.delivery_build import DeliveryTraining, build_delivery, training_runs
from vvuq_twin.reduction.delivery_case import DeliveryCase
from vvuq_twin.reduction.delivery_numbers import delivery_space
from vvuq_twin.reduction.delivery_validation import flow_errors, relative_errors, truth, tumour_fields
from vvuq_twin.reduction.exchange import exchange_modes, exchange_parameters, fading
from vvuq_twin.reduction.training import training_parameters

FLUID = dict.fromkeys(
    ("K_tumour", "K_normal", "Lp_tumour", "Lp_normal", "P_drug", "D_drug", "volume"), 0.3
)  # of every agent


def _errors(case: DeliveryCase, runs: int, how: DeliveryTraining, unseen: int = 3) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Relative errors in the tumour (N, T, s) of unseen members, and the full order's amounts."""
    design = training_parameters(case.space, runs, 4)
    model, trained = build_delivery(case, design, training_runs(case, design, how), how)
    theta = case.space.sample(unseen, 4, "agents")
    assert flow_errors(trained, case, theta)["pressure"].max() < 2e-3
    wanted = truth(case, theta)
    amount, status = model.run(case, theta)
    assert (status == 0).all()
    return relative_errors(tumour_fields(model, case, amount), wanted), wanted


def test_a_carrier_that_releases_its_drug() -> None:
    """Liposomes: three moving species, the drug's source a carrier that leaks out of the vessels itself."""
    agent = load_agent("liposomal_doxorubicin")
    own = {
        "P_carrier": 0.3,
        "tissue_carrier_to_free": 0.3,
        "tissue_free_to_cell_vmax": 0.3,
        "carrier_to_out": 0.3,
    }
    case = replace(
        small_case(), agent=agent, space=delivery_space(small_case().site, agent, FLUID | own),
        doses=(Dose(0.0, 90.0, "carrier", duration=0.25),),
    )  # fmt: skip
    errors, amount = _errors(case, 24, DeliveryTraining(modes=24, records=24))
    assert errors.shape[2] == 4 and (amount.max(axis=(0, 1, 3)) > 1e-3).all()
    assert errors.max() < 1e-3


def test_receptors_that_fill_up_and_internalise() -> None:
    """The tissue part of 177Lu-PSMA with a wall of its own: k_on, capacity, k_off, internalisation and its return."""
    agent = load_agent("lu177_psma")
    wall = {
        "permeability": Number(value=1e-7, unit="m/s", source="chosen", read=True),
        "reflection": Number(value=0.1, unit="1", source="chosen", read=True),
    }
    agent = agent.model_copy(update={"tissue": agent.tissue.model_copy(update=wall)})
    own = {
        "tissue_free_to_bound_on": 0.3, "tissue_free_to_bound_capacity": 0.5, "tissue_bound_to_free": 0.3,
        "tissue_bound_to_internalised": 0.3, "tissue_internalised_to_free": 0.3,
    }  # fmt: skip
    case = replace(
        small_case(), agent=agent, space=delivery_space(small_case().site, agent, FLUID | own),
        doses=(Dose(0.0, 300.0, duration=0.25),),
    )  # fmt: skip
    errors, amount = _errors(case, 24, DeliveryTraining(modes=40, records=24))
    theta = case.space.sample(3, 4, "agents")
    capacity = case.value(theta, "tissue_free_to_bound_capacity")
    filled = amount[:, :, case.drug.names.index("bound")].max(axis=(1, 2)) / capacity
    assert filled.max() > 0.7 and (filled < 1.0).all()
    assert errors.max() < 1e-3


@pytest.mark.slow
def test_an_uncertain_perfusion_map() -> None:
    """Four modes of the vessels' surface: they move fluid, pressure and every species' exchange."""
    case = small_case()
    faces, inside = case.site.faces, case.site.tumour
    modes = exchange_modes(faces, fading(faces, inside, 0.3, 2.0), 3.0, 4)
    space = ParameterSpace((*case.space.parameters, *exchange_parameters(modes)))
    case = replace(case, space=space, exchange=modes.patterns)
    theta = case.space.sample(2, 4, "agents")
    x = case.inputs(theta)
    scores = theta[1, case.space.index("exchange_1") :]
    surface = case.site.relative * np.exp(scores @ modes.patterns)
    tissue = case.member(x, 1)[0]
    table = np.asarray(x.fluid["S"])[1][faces.label]
    np.testing.assert_allclose(tissue.surface, table * surface, rtol=1e-13)
    np.testing.assert_allclose(
        case.fluid(x, 1).filtration, (np.asarray(x.fluid["Lp"])[1][faces.label] * table) * surface, rtol=1e-13
    )
    errors, _ = _errors(case, 64, DeliveryTraining(modes=40, records=24, flows=100, flow_modes=60))
    assert errors.max() < 1e-3
    # and the map matters: without the scores the same members differ by far more
    flat = theta.copy()
    flat[:, case.space.index("exchange_1") :] = 0.0
    short = replace(case, times=np.array([1.0]))
    assert relative_errors(truth(short, flat), truth(short, theta)).max() > 0.05
