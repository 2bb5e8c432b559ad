"""The reduced delivery against the full order: pressure and flow, projected operators, time steps, unseen members."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from ..domain.grid import Grid
from ..domain.parameters import ParameterSpace
from ..kinetics.plasma import Dose
from ..physics.agents import load_agent
from ..physics.faces import assemble
from ..physics.pressure import pressure_system
from ..physics.site import delivery_site
from ..physics.tissue import Tissue
from ..reduction.delivery_build import DeliveryTraining, build_delivery, training_runs
from ..reduction.delivery_case import DeliveryCase
from ..reduction.delivery_numbers import delivery_space
from ..reduction.delivery_reference import Reference, case_grid, reference
from ..reduction.delivery_validation import flow_errors, relative_errors, truth, tumour_fields
from ..reduction.exchange import exchange_modes, exchange_parameters, fading
from ..reduction.flow import fluid_at
from ..reduction.flow_build import build_flow
from ..reduction.training import training_parameters
from ..reduction.transport import build_transport, validate_transport
from ..reduction.transport_case import TransportCase
from .registry import Result, check, largest

SEED = 4
#: Uncertain numbers and their spreads (standard deviation of the logarithm).
SPREAD = {
    "K_tumour": 0.3, "K_normal": 0.3, "Lp_tumour": 0.3, "Lp_normal": 0.3, "P_drug": 0.3, "P_bound": 0.3, "D_drug": 0.3,
    "tissue_free_to_cell_vmax": 0.3, "tissue_free_to_cell_half_in": 0.3, "central_to_out": 0.3, "volume": 0.3,
}  # fmt: skip


@cache
def lump_case(subgrid: bool = True) -> DeliveryCase:
    """48 h of doxorubicin in a lump without symmetry on millimetre voxels, its vessels denser on one side."""
    grid = Grid((9, 8, 7), (1.0, 1.0, 1.0))
    x, y, z = np.meshgrid(*grid.centres(), indexing="ij")
    tumour = ((x - 3.7) / 2.4) ** 2 + ((y - 3.6) / 2.2) ** 2 + ((z - 3.1) / 2.0) ** 2 < 1.0
    organ = x + y + z < 17.0
    perfusion = 1.0 + 0.6 * np.sin(0.8 * x) * np.cos(0.5 * y)
    site = delivery_site(grid, organ, tumour, 20.0, perfusion, 0.35 + 0.1 * np.cos(0.6 * z))
    agent = load_agent("doxorubicin")
    times = np.array([0.25, 1.0, 4.0, 12.0, 48.0])
    doses = (Dose(0.0, 90.0, duration=0.25),)
    return DeliveryCase(site, agent, doses, times, delivery_space(site, agent, SPREAD), subgrid)


@cache
def _trained() -> tuple[np.ndarray, Reference]:
    theta = training_parameters(lump_case().space, 24, SEED)
    return theta, training_runs(lump_case(), theta, DeliveryTraining(records=24))


@check(
    "reduction.delivery.pressure",
    "The reduced pressure's operators are the full ones', projected, and its error falls with the modes",
    "without sub-grid fluxes (affine in K and Lp S/V) the projected matrix and source to 1e-12; with and without, pressure, "
    "flow and filtration of unseen members within 1e-3 at the finest of three tolerances, a tenth of that at the coarsest",
    "the full pressure system, projected cell by cell; its solutions by conjugate gradients",
)
def pressure(quick: bool) -> Result:
    """Four uncertain conductivities."""
    passed, result = True, {}
    for subgrid in (False, True):
        case = lump_case(subgrid)
        fluid = case.inputs(training_parameters(case.space, 48, SEED)).fluid
        theta = case.space.sample(4 if quick else 16, SEED, "check-flow")
        x, n = case.inputs(theta), case.site.faces.n
        worst: dict[str, list[float]] = {"pressure": [], "flow": [], "filtered": [], "operators": []}
        for tolerance in (1e-2, 1e-3, 1e-5):
            trained = build_flow(case.site, case.vessels, fluid, subgrid, tolerance)
            for name, errors in flow_errors(trained, case, theta).items():
                worst[name].append(float(errors.max()))
            flow, gaps = trained.flow, []
            left, right = flow.system(x.fluid)
            here = fluid_at(x.fluid, case.site.faces.label, case.vessels)
            to_u = here.scales(flow.spacing, subgrid, np)[0]
            for i in range(len(theta)):
                full = pressure_system(case.fluid(x, i), case.site.boundary, np.zeros(n), subgrid)
                exact = flow.vectors.T @ (full.matrix @ (to_u[i][:, None] * flow.vectors))
                gaps.append(np.abs(left[i] - exact).max() / np.abs(exact).max())
                source = flow.vectors.T @ full.right
                gaps.append(np.abs(right[i] - source).max() / np.abs(source).max())
            worst["operators"].append(largest(gaps))
        operators = worst["operators"]
        passed &= subgrid or largest(operators) < 1e-12
        for name in ("pressure", "flow", "filtered"):
            passed &= worst[name][-1] < 1e-3 and worst[name][-1] < 0.1 * worst[name][0]
        result["subgrid" if subgrid else "plain"] = worst
    return bool(passed), result


@check(
    "reduction.delivery.reference",
    "The full order that the reduced one is trained on and judged by is the limit of the package's splitting as its steps and "
    "tolerance shrink, and its own steps converge at third order",
    "free, bound and taken-up drug in the tumour over 1 h: difference below 6e-4 at steps of 15 s and a tolerance of 3e-4, and less "
    "than half of that at four times the steps; halved steps of the reference divide its error by at least 5",
    "the package's transport run: exact local kinetics, Heun's transport, Strang's splitting",
)
def limit(quick: bool) -> Result:
    """One unseen member."""
    case = replace(lump_case(), times=np.array([0.25, 1.0]))
    theta = case.space.sample(1, SEED, "check-limit")
    exact, errors = truth(case, theta), []
    for dt, change in ((1 / 60, 5e-3), (1 / 240, 3e-4)):
        split = case.full(theta, dt, change, cells=case.site.tumour).sound().amount
        errors.append(float(relative_errors(split, exact).max()))
    inside, own = case.site.tumour, []
    fine = reference(case, theta, case_grid(case, 1.25e-4, 0.01, 1.0), inside).amount
    for k in (1.0, 0.5, 0.25):
        run = reference(case, theta, case_grid(case, 2e-3 * k, 0.2 * k, 2.0 * k), inside).amount
        own.append(float(relative_errors(run, fine).max()))
    passed = errors[1] < 6e-4 and errors[1] < 0.5 * errors[0] and own[1] > 5.0 * own[2]
    return passed, {"splitting_difference": errors, "own_steps_difference": own}


@check(
    "reduction.delivery.modes",
    "The reduced delivery's error on parameters it was not trained on falls with the modes to that of its time steps",
    "free and taken-up drug in the tumour, worst output time: worst member below 1e-3 with the most modes and a fifth of "
    "that with the fewest; no member fails",
    "the full order converged in time",
)
def modes(quick: bool) -> Result:
    """Eleven uncertain numbers over 48 h."""
    case, (design, runs) = lump_case(), _trained()
    theta = case.space.sample(3 if quick else 12, SEED, "check-delivery")
    exact, worst, failed = truth(case, theta), [], 0
    counts = (4, 24) if quick else (4, 8, 16, 24)
    for count in counts:
        how = DeliveryTraining(modes=count)
        model, _ = build_delivery(case, design, runs, how)
        amount, status = model.run(case, theta)
        failed += int((status != 0).sum())
        error = relative_errors(tumour_fields(model, case, amount), exact)
        worst.append(float(error[:, :, [0, 2]].max()))
    passed = worst[-1] < 1e-3 and worst[-1] < 0.2 * worst[0] and failed == 0
    return passed, {"modes": list(counts), "worst_error": worst, "failed": failed}


@check(
    "reduction.transport.map",
    "Linear transport with an uncertain exchange map: the reduced order follows the full one on maps it was not trained on",
    "free drug in the tumour, worst output time: worst member below 1e-3 with the most modes and a fifth of that with the fewest; the "
    "interpolated map within 1e-4; an affine map in its place is off by more than ten times as much",
    "the full order with every voxel's Ktrans times the exponential of the same modes",
)
def exchange_map(quick: bool) -> Result:
    """Three modes of 30 % in a lump, temozolomide by mouth over 12 h."""
    case, inside, modes = _map_case()
    design = training_parameters(case.space, 24, SEED)
    theta = case.space.sample(4 if quick else 12, SEED, "check-map")
    counts, found = (8, 40), []
    for count in counts:
        model = build_transport(case, design, 0.05, 1e-8, count)
        found.append(validate_transport(model, case, theta, 0.02, inside))
    scores = case.inputs(theta).scores
    wanted = np.exp(scores @ modes)[:, inside]
    gap = np.linalg.norm(1.0 + (scores @ modes)[:, inside] - wanted, axis=1)
    affine = float((gap / np.linalg.norm(wanted, axis=1)).max())
    errors, maps = [f["amount_worst"] for f in found], found[-1]["map_worst"]
    passed = errors[-1] < 1e-3 and errors[-1] < 0.2 * errors[0] and maps < 1e-4 and affine > 10.0 * maps
    return passed, {"modes": list(counts), "worst_error": errors, "map_error": maps, "affine_map_error": affine}  # fmt: skip


def _map_case() -> tuple[TransportCase, np.ndarray, np.ndarray]:
    """A case, its tumour's cells and the modes of its map."""
    grid = Grid((10, 9, 8), (2.0, 2.0, 2.0))
    x, y, z = np.meshgrid(*grid.centres(), indexing="ij")
    faces = assemble(grid, x + y + z < 36.0, np.where(x > 11.0, 2, 1), {"white": 1, "grey": 2})
    ktrans = faces.gather(0.3 + 2.5 * np.exp(-((x - 8) ** 2 + (y - 8) ** 2 + (z - 7) ** 2) / 40.0))
    inside, agent = ktrans > 1.0, load_agent("temozolomide")
    field = exchange_modes(faces, fading(faces, inside, 0.3, 4.0), 8.0, 3)
    space = ParameterSpace((*agent.parameters(), *exchange_parameters(field)))
    tissue = Tissue(faces, ktrans, faces.gather(0.2 + 0.1 * np.cos(x / 4.0) ** 2))
    doses = (Dose(0.0, 150.0, agent.compartment("oral")),)
    case = TransportCase(tissue, agent, doses, np.arange(1.0, 13.0), space, exchange=field.patterns)
    return case, inside, field.patterns
