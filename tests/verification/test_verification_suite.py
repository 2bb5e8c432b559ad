"""Every check passes as the code stands, and fails when the code is made wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from delivery_mutations import DELIVERY_MUTATIONS
from estimator_mutations import ESTIMATOR_MUTATIONS
from imaging_mutations import IMAGING_MUTATIONS
from transport_mutations import TRANSPORT_MUTATIONS

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.ensemble import beside, cluster
from vvuq_twin.kinetics import dose_rate, pbpk, plasma, saturable
from vvuq_twin.kinetics.measured import population_course
from vvuq_twin.kinetics.network import Reaction
from vvuq_twin.physics import pressure, response, transport
from vvuq_twin.physics.effect import Linear
from vvuq_twin.physics.faces import Faces
from vvuq_twin.physics.response import superposed_kill
from vvuq_twin.physics.tissue import Drug, Tissue
from vvuq_twin.physics.transport import Stepper
from vvuq_twin.reduction import galerkin
from vvuq_twin.reduction.cubature import exact_square
from vvuq_twin.study.growth import FIRST, VERIFIED
from vvuq_twin.verification import (
    forced,
    gci,
    gci_checks,
    growth_checks,
    kinetics_checks,
    operator_checks,
    plasma_checks,
    pressure_checks,
    reduction_checks,
    response_checks,
    run_suite,
    spheres,
    transport_checks,
)
from vvuq_twin.verification.least_squares import least_squares_uncertainty
from vvuq_twin.verification.registry import Check, NotAssessed, begin_suite, largest, load_checks

CHECKS = load_checks()


@pytest.mark.parametrize("name", CHECKS)
def test_check_passes(name):
    evidence = CHECKS[name].run(quick=True)
    assert evidence.status == "passed", evidence.result
    assert evidence.claim and evidence.acceptance and evidence.provenance["oracle"]
    assert evidence.factor in {
        "numerical_code_verification",
        "discretization_error",
        "numerical_solver_error",
    }


def arithmetic(self, diffusivity):
    """The wrong mean at the interface of two tissues."""
    d = np.asarray(diffusivity)
    pairs = np.array(self.groups)
    return 0.5 * (d[..., pairs[:, 0]] + d[..., pairs[:, 1]])


def more_conductance(self, diffusivity):
    return 1.02 * np.asarray(harmonic_mean(self, diffusivity))


harmonic_mean = Faces.conductance
sparse_term = Faces._term
kernel_conductance = Tissue.face_conductance
stepper_march = Stepper.march
stepper_local = Stepper.local
advance = growth_checks.advance
timeline = growth_checks.timeline
rate_matrix = plasma.rate_matrix
kernels_diffuse = forced.kernels.diffuse


def faster_growth(faces, initial, parameters, *rest, **named):
    wrong = {**vars(parameters), "rate": 1.05 * parameters.rate}
    return advance(faces, initial, type(parameters)(**wrong), *rest, **named)


def slower_decay(faces, initial, parameters, *rest, **named):
    wrong = {**vars(parameters), "drug_decay": 0.999 * parameters.drug_decay}
    return advance(faces, initial, type(parameters)(**wrong), *rest, **named)


def fractions_on_whole_days(t0, visits, drug=(), fractions=(), **named):
    return timeline(t0, visits, drug, [(float(np.ceil(t)), d) for t, d in fractions], **named)


def growing_a_little(faces, initial, parameters, *rest, **named):
    wrong = {**vars(parameters), "rate": parameters.rate + 1e-11}
    return advance(faces, initial, type(parameters)(**wrong), *rest, **named)


def swollen(*arguments, **named):
    states, status = advance(*arguments, **named)
    return states * (1 + 1e-9), status


def first_order_cellularity(spacing):
    return 6.7 * (1 + 0.05 * spacing)


def biased_fit(h, values):
    limit, order, residual = gci.least_squares_order(h, values)
    return limit, order * (1 + 1e-5), residual


def leaking_march(self, dt, count):
    stepper_march(self, dt, count)
    self.species *= 1 + 1e-10


def one_sided_march(self, dt, count):
    """First-order (Lie) splitting."""
    for _ in range(count):
        self.move(dt)
        self.local(dt)


def sampled_plasma(self, dt):
    """The plasma held constant over the step instead of integrated with the tissue."""
    before = self.plasma.copy()
    key = round(dt, 11)
    stepper_local(self, dt)
    s = self.drug.size
    maps = self.maps[key]
    held = np.einsum("vij,j->vi", maps[:, :s, s:], before[: self.plan.size])[
        self.kind if self.kind.size else slice(None)
    ]
    exact_input = self.tissue.ktrans * dt * float(self.rows[0] @ before[: self.plan.size])
    self.species[:, 0] += exact_input - held[:, 0]


def heavier_term(self, g, weight):
    return sparse_term(self, g, weight) * (1 + 1e-11)


def shorter_diffusion(u, g0, g1, g2, rows, dt, bound, work, tmp):
    kernels_diffuse(u, g0, g1, g2, rows, dt * (1 - 0.01 * dt), bound, work, tmp)


def arithmetic_mean(faces, half):
    return [0.25 * (half[a][low] + half[a][high]) for a, (low, high, _) in enumerate(faces.neighbours)]


def next_axis(faces, half):
    return face_conductance(faces, half[1:] + half[:1])


face_conductance = pressure._face_conductance
half_conductance = pressure._half_conductance
solve_pressure = pressure._solve
radial = spheres.Sphere.radial
point_infusion = pressure.point_infusion


def shifted_radial(self, n, reach):
    r, p, out = radial(self, n, reach)
    return r, p * (1 + 1e-4), out


def stronger_rim(tissue, subgrid):
    half, weight = half_conductance(tissue, subgrid)
    return [1.5 * h for h in half], weight


def narrow(spacing, values):
    """Without a safety factor."""
    got = least_squares_uncertainty(spacing, values)
    return replace(got, uncertainty=tuple(u / 1.25 for u in got.uncertainty))


def sampled_march(self, stop):
    """The kill rate at the start of each transport step instead of its integral."""
    count = max(1, int(np.ceil((stop - self.now) / self.dt - 1e-9)))
    dt, kill = (stop - self.now) / count, 0.0
    for _ in range(count):
        kill = kill + dt * self.law.rate(self.stepper.species[:, self.species])
        self.stepper.march(dt, 1)
    return kill


def frozen_tissue(faces, initial, parameters, line, drug, plan, law, tissue_of, **named):
    """Transport that does not see the tumour change."""
    still = tissue_of(initial)
    return response.coupled_growth(
        faces, initial, parameters, line, drug, plan, law, lambda n: still, **named
    )


def slower_repair(line, hours, rate, alpha, beta, repair, *rest, **named):
    return response.dose_rate_kill(line, hours, rate, alpha, beta, 0.9 * repair, *rest, **named)


def late_doses(model, doses):
    """Every dose a millisecond late."""
    return plasma.course(
        model, [plasma.Dose(d.time + 3e-7, d.amount, d.compartment, d.duration) for d in doses]
    )


def receptor_lost(reactants, products, rate):
    """Internalised ligand takes its receptor along."""
    inside = [p for p in products if "internalised" in p]
    return Reaction(reactants, tuple(inside) or products, rate)


def decay_frees_receptors(reactants, products, rate):
    """What decays on a receptor lets go of it."""
    (first, *_) = reactants
    if first.endswith("bound hot") and products == (first.removesuffix("hot") + "cold",):
        organ = first.removesuffix(" bound hot")
        products = (f"{organ} interstitium cold", f"{organ} receptors")
    return Reaction(reactants, products, rate)


def weaker_square(vectors):
    """A projected square that lets tumours grow beyond capacity."""
    points, lift = exact_square(vectors)
    return points, 0.9 * lift


MUTATIONS = [
    *TRANSPORT_MUTATIONS,
    *DELIVERY_MUTATIONS,
    *ESTIMATOR_MUTATIONS,
    ("reduction.modes", reduction_checks, "advance", faster_growth),
    ("reduction.projection", galerkin, "exact_square", weaker_square),
    ("reduction.horizon", galerkin, "exact_square", weaker_square),
    *IMAGING_MUTATIONS,
    ("growth.mms.space.tissues", Faces, "conductance", arithmetic),
    ("growth.mms.space.uniform", Faces, "conductance", more_conductance),
    ("growth.mms.space.masked", Faces, "conductance", more_conductance),
    ("growth.mms.time.explicit", forced.kernels, "diffuse", shorter_diffusion),
    ("growth.mms.time.super", forced.kernels, "diffuse", shorter_diffusion),
    ("growth.mms.space.gompertz", Faces, "conductance", more_conductance),
    ("growth.mms.time.gompertz", forced.kernels, "diffuse", shorter_diffusion),
    ("growth.gompertz", growth_checks, "advance", faster_growth),
    ("growth.sampling", growth_checks, "advance", slower_decay),
    ("growth.logistic", growth_checks, "advance", faster_growth),
    ("growth.front", growth_checks, "advance", faster_growth),
    ("growth.wave", growth_checks, "advance", faster_growth),
    ("growth.driver", growth_checks, "advance", faster_growth),
    ("growth.treatment", growth_checks, "advance", slower_decay),
    ("growth.treatment", growth_checks, "timeline", fractions_on_whole_days),
    ("growth.reference", growth_checks, "advance", slower_decay),
    ("growth.mass", operator_checks, "advance", growing_a_little),
    ("growth.bounds", operator_checks, "advance", swollen),
    ("growth.gci", gci_checks, "tumour_cellularity", first_order_cellularity),
    ("gci.uncertainty", gci_checks, "least_squares_uncertainty", narrow),
    ("gci.least_squares", gci_checks, "least_squares_order", biased_fit),
    ("operators.growth", Faces, "_term", heavier_term),
    ("operators.transport", Faces, "_term", heavier_term),
    ("transport.tofts", Stepper, "local", sampled_plasma),
    ("transport.tofts", Drug, "unbound", lambda self, plan: 1.0),
    ("transport.mass", Stepper, "march", leaking_march),
    ("transport.exposure", Stepper, "march", one_sided_march),
    ("transport.reference", Stepper, "march", one_sided_march),
    ("transport.reference", Tissue, "face_conductance", lambda self, d: kernel_conductance(self, 1.02 * d)),
    (
        "operators.transport",
        Tissue,
        "face_conductance",
        lambda self, d: kernel_conductance(self, d * (1 + 1e-11)),
    ),
    ("transport.mms.diffusion", Faces, "conductance", more_conductance),
    ("transport.mms.convection.limited", forced, "SCHEMES", {"van_leer": 0}),
    ("transport.mms.convection.central", forced, "SCHEMES", {"central": 0}),
    ("transport.mms.convection.upwind", forced, "SCHEMES", {"upwind": 1}),
    ("transport.positive", transport, "SCHEMES", {"upwind": 2, "van_leer": 2, "central": 2}),
    (
        "transport.plasma",
        transport_checks,
        "simulate",
        lambda p, t: (plasma.simulate(p, t)[0] * (1 + 1e-9), None),
    ),
    ("pressure.sphere.closed", spheres, "_sinh_ratio", lambda a, x: np.sinh(a * x) / np.sinh(a)),
    ("pressure.sphere.radial", spheres.Sphere, "radial", shifted_radial),
    ("pressure.sphere.voxel", pressure, "_half_conductance", stronger_rim),
    ("pressure.mms", pressure, "_face_conductance", arithmetic_mean),
    ("pressure.balance", pressure, "_solve", lambda m, r, t: solve_pressure(m, r, 1e-4)),
    ("pressure.invariance", pressure, "_face_conductance", next_axis),
    ("pressure.infusion", pressure_checks, "point_infusion", lambda f, x, q: point_infusion(f, x, 1.02 * q)),
    ("pressure.rim", pressure, "rim_orientation", lambda f: [np.ones(len(x[0])) for x in f.neighbours]),
    ("gci.celik2008", gci, "SAFETY", 3.0),
    *[
        (name, plasma_checks, "rate_matrix", lambda names, flows: rate_matrix(names, flows) * (1 + 1e-9))
        for name in CHECKS
        if CHECKS[name].function.__module__ == plasma_checks.__name__
    ],
    (
        "plasma.saturable",
        kinetics_checks,
        "Reaction",
        lambda a, b, k, **more: Reaction(a, b, k * (1 + 1e-7), **more),
    ),
    ("plasma.population", kinetics_checks, "population_course", lambda: population_course(scale=1.001)),
    ("plasma.scipy", kinetics_checks, "course", late_doses),
    ("plasma.diffrax", kinetics_checks, "course", late_doses),
    ("body.balance", pbpk, "Reaction", receptor_lost),
    ("body.moles", pbpk, "Reaction", decay_frees_receptors),
    ("body.scipy", pbpk, "Reaction", lambda a, b, k: Reaction(a, b, np.multiply(k, 1 + 1e-4))),
    ("body.siebinga", saturable, "Reaction", lambda a, b, k, **more: Reaction(a, b[:-1], k, **more)),
    ("body.dose_factor", pbpk, "elementary_charge", 1.61e-19),
    ("response.exposure", response_checks, "Linear", lambda slope: Linear(1.002 * slope)),
    ("response.hill", response._Transport, "_march", sampled_march),
    ("response.coupled", response_checks, "coupled_growth", frozen_tissue),
    (
        "response.superposition",
        response_checks,
        "superposed_kill",
        lambda *a: superposed_kill(*a[:-1], 1.1 * a[-1]),
    ),
    ("response.dose_rate", response_checks, "dose_rate_kill", slower_repair),
    ("dose_rate.factor", dose_rate, "_phi2", lambda z: 0.5),
]


def test_every_check_has_a_mutation():
    assert {name for name, *_ in MUTATIONS} == set(CHECKS)


@pytest.mark.parametrize(("name", "owner", "attribute", "wrong"), MUTATIONS)
def test_check_fails_when_the_code_is_wrong(monkeypatch, name, owner, attribute, wrong):
    monkeypatch.setattr(owner, attribute, wrong)
    evidence = CHECKS[name].run(quick=True)
    assert evidence.status == "failed", evidence.result
    assert "error" not in evidence.result or not isinstance(evidence.result["error"], str), evidence.result


def test_the_largest_error_of_a_check_is_nan_if_one_is():
    for values in ((1.0, np.nan), (np.nan, 1.0), (0.0, np.nan, np.inf)):
        assert np.isnan(largest(values))
    assert largest(iter((1.0, 3.0, -np.inf))) == 3.0


def test_a_check_that_raises_is_a_failed_check():
    def broken(quick):
        raise ZeroDivisionError("no grid")

    evidence = Check("broken", "numerical_code_verification", "c", "a", "s", broken).run()
    assert evidence.status == "failed"
    assert evidence.result == {"error": "ZeroDivisionError: no grid"}


def test_a_check_whose_oracle_is_not_installed_is_not_assessed():
    def without(quick):
        raise NotAssessed("the oracle is not installed")

    evidence = Check("without", "numerical_code_verification", "c", "a", "s", without).run()
    assert evidence.status == "not assessed"
    assert evidence.result == {"reason": "the oracle is not installed"}


def test_checks_on_a_worker_find_what_checks_here_find() -> None:
    with cluster(1) as client:
        apart = run_suite(only="plasma.b", quick=True, begin=beside(client))
    here = run_suite(only="plasma.b", quick=True)
    assert [e.id for e in apart] == [e.id for e in here] != []
    assert [(e.status, e.result) for e in apart] == [(e.status, e.result) for e in here]


def test_suite_selects_reports_progress_and_orders():
    seen = []
    found = run_suite(only="gci", quick=True, progress=lambda done, total: seen.append((done, total)))
    assert [e.id for e in found] == sorted(e.id for e in found)
    assert {e.id for e in found} == {"gci.celik2008", "gci.least_squares", "gci.uncertainty", "growth.gci"}
    assert seen == [(i, 4) for i in range(5)]


def test_several_beginnings_choose_the_checks_that_begin_so():
    begun = []
    begin_suite(("plasma.bo", "gci."), begin=lambda function, *arguments: begun.append(arguments[0]))
    assert begun == [
        "gci.celik2008",
        "gci.least_squares",
        "gci.uncertainty",
        "plasma.bolus",
    ]  # not growth.gci
    with pytest.raises(BadInput, match="no check named 'gic'"):
        begin_suite(("plasma.", "gic"))


def test_checks_that_were_begun_already_are_left_out():
    begun = []
    for only, but in ((FIRST, ()), (VERIFIED, FIRST)):
        begin_suite(only, begin=lambda function, *arguments: begun.append(arguments[0]), but=but)
    assert begun[: len(FIRST)] == list(FIRST) and len(begun) == len(set(begun))
    everything = []
    begin_suite(VERIFIED, begin=lambda function, *arguments: everything.append(arguments[0]))
    assert sorted(begun) == everything


def test_a_growth_study_names_checks_that_there_are():
    begun = []
    begin_suite(VERIFIED, begin=lambda function, *arguments: begun.append(arguments[0]))
    assert "growth.wave" in begun and "transport.mass" in begun and "reduction.delivery.modes" not in begun


def test_unknown_check_is_bad_input():
    with pytest.raises(BadInput, match="no check named 'grwth'"):
        run_suite(only="grwth")
