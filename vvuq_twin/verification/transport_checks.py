"""Transport against closed forms, mass balance, positivity and the steady exposure problem."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..domain.keys import generator
from ..kinetics.plasma import Dose, PlasmaModel, course, rate_matrix, simulate
from ..physics.faces import Faces
from ..physics.tissue import Drug, Tissue
from ..physics.transport import total_exposure, transport
from .operator_checks import rough_domain
from .registry import Result, check, largest

NAMES = ("central", "peripheral")
K10, K12, K21, VOLUME = 1.15, 3.15, 5.01, 8.0


def two_compartments() -> PlasmaModel:
    """A plasma model whose two rates differ by a factor of ten, half of the drug unbound."""
    flows = {("central", "peripheral"): K12, ("peripheral", "central"): K21, ("central", "out"): K10}
    return PlasmaModel(NAMES, rate_matrix(NAMES, flows), VOLUME, unbound=0.5)


def rough_tissue(faces: Faces, flow: bool, speed: float = 0.3) -> Tissue:
    """Random maps on a ragged mask."""
    rng = generator(11, "verification", "tissue")
    velocity = (
        speed * rng.normal(size=faces.box),
        speed * rng.normal(size=faces.box),
        speed * rng.normal(size=faces.box),
    )
    ktrans, phi = rng.random(faces.n), 0.2 + 0.4 * rng.random(faces.n)
    return Tissue(faces, ktrans, phi, vp=0.05 * rng.random(faces.n), velocity=velocity if flow else None)


@check(
    "transport.tofts",
    "Without transport every voxel is an extended Tofts model, whatever the step",
    "largest error of C + vp Cp relative to the peak below 1e-12 for steps of 1 and 0.07 h",
    "closed form: Ktrans sum a_i (e^{-l_i t} - e^{-kep t})/(kep - l_i) + vp Cp",
)
def tofts(quick: bool) -> Result:
    """Bi-exponential plasma curve, 1500 different voxels."""
    faces = rough_domain()
    tissue = rough_tissue(faces, False)
    s, p = K10 + K12 + K21, K10 * K21
    fast, slow = (s + np.sqrt(s * s - 4 * p)) / 2, (s - np.sqrt(s * s - 4 * p)) / 2
    dose = 7.0
    a = dose / VOLUME * np.array([fast - K21, K21 - slow]) / (fast - slow)
    times = np.array([0.3, 1.0, 4.0, 11.0])
    kep = tissue.ktrans / tissue.phi
    cp = a[0] * np.exp(-fast * times) + a[1] * np.exp(-slow * times)
    exact = np.zeros((len(times), faces.n))
    for amplitude, rate in zip(a, (fast, slow)):
        e = np.exp(-rate * times)[:, None] - np.exp(-np.outer(times, kep))
        exact += 0.5 * tissue.ktrans * amplitude * e / (kep - rate)
    assert tissue.vp is not None
    exact += np.outer(cp, tissue.vp)
    result: dict[str, Any] = {}
    for dt in (1.0, 0.07):
        drug = Drug(np.zeros(3))
        plan = course(two_compartments(), [Dose(0.0, dose)])
        got = transport(tissue, drug, plan, times, dt)
        total = got.amount[:, 0] + np.outer(got.plasma @ plan.readout, tissue.vp)
        result[f"error_dt_{dt:g}_h"] = float(np.abs(total - exact).max() / exact.max())
    return largest(result.values()) < 1e-12, result


@check(
    "transport.mass",
    "What enters from plasma is in the tissue, back in plasma or eliminated",
    "relative residual below 1e-13 with diffusion, convection (three schemes), binding, degradation and an infusion",
    "conservation of mass",
)
def mass(quick: bool) -> Result:
    """All mechanisms on a ragged mask."""
    faces = rough_domain()
    tissue = rough_tissue(faces, True)
    reactions = np.array([[-0.9, 0.3, 0.0], [0.6, -0.7, 0.0], [0.0, 0.2, 0.0]])
    drug = Drug(np.array([1.0, 0.4, 2.0]), reactions, ("free", "bound", "internalised"))
    plan = course(two_compartments(), [Dose(0.0, 5.0), Dose(3.1, 4.0, duration=1.7)])
    result: dict[str, Any] = {}
    for scheme in ("upwind", "van_leer", "central"):
        got = transport(tissue, drug, plan, np.array([0.0, 2.0, 4.0, 9.0]), 0.2, scheme)
        result[f"residual_{scheme}"] = float(np.abs(got.balance.residual).max())
    result["eliminated_fraction"] = float(got.balance.eliminated[-1] / got.balance.supplied[-1])
    return largest(result[f"residual_{s}"] for s in ("upwind", "van_leer", "central")) < 1e-13, result


@check(
    "transport.positive",
    "Concentrations stay positive, and convection makes no new extremes",
    "no negative value (1e-15) with upwind and limited convection, where central convection has some",
    "maximum principle",
)
def positive(quick: bool) -> Result:
    """Strong flow, little diffusion, and the drug starting in few voxels."""
    faces = rough_domain()
    rng = generator(11, "verification", "sparse source")
    base = rough_tissue(faces, True, 3.0)
    tissue = Tissue(faces, np.where(rng.random(faces.n) < 0.1, 2.0, 0.0), base.phi, velocity=base.velocity)
    plan = course(two_compartments(), [Dose(0.0, 5.0)])
    least = {
        scheme: float(
            transport(tissue, Drug(np.full(3, 0.02)), plan, np.linspace(0, 3, 7), 0.1, scheme).amount.min()
        )
        for scheme in ("upwind", "van_leer", "central")
    }
    passed = min(least["upwind"], least["van_leer"]) >= -1e-15 and least["central"] < -1e-6
    return passed, {f"least_{k}": v for k, v in least.items()}


@check(
    "transport.exposure",
    "The exposure that a long run accumulates is that of the steady problem",
    "order 2 within 0.2 in the step, relative difference below 1e-3 at a step of 0.025 h",
    "the equation integrated over all time, solved by conjugate gradients",
)
def exposure(quick: bool) -> Result:
    """Diffusion, degradation and reversible binding; 40 h after two doses."""
    faces = rough_domain(shape=(10, 9, 8))
    tissue = rough_tissue(faces, False)
    drug = Drug(np.array([1.0, 0.4, 2.0]), np.array([[-1.0, 0.5], [0.6, -0.8]]), ("free", "bound"))
    plan = course(two_compartments(), [Dose(0.0, 5.0), Dose(4.0, 3.0, duration=1.0)])
    exact = total_exposure(tissue, drug, plan)
    steps = [0.1, 0.05, 0.025, 0.0125]
    errors = []
    for dt in steps:
        got = transport(tissue, drug, plan, np.array([40.0]), dt).exposure[0, 0]
        errors.append(float(np.abs(got / exact - 1.0).max()))
    orders = np.diff(np.log(errors)) / np.diff(np.log(steps))
    passed = abs(orders[-1] - 2.0) < 0.2 and errors[2] < 1e-3
    return passed, {"dt_h": steps, "relative_difference": errors, "order": orders.tolist()}


@check(
    "transport.reference",
    "Transport with plasma, diffusion, upwind flow and degradation converges to an independent integrator",
    "order 2 within 0.2 on the two finest of four steps, relative error below 1e-3 at 0.025 h",
    "scipy DOP853 at tolerance 1e-11 on the sparse terms",
)
def reference(quick: bool) -> Result:
    """The sparse pieces a reduced model projects, integrated on their own."""
    from scipy.integrate import solve_ivp

    from ..physics.tissue import transport_terms

    faces = rough_domain(shape=(8, 7, 6))
    tissue = rough_tissue(faces, True)
    d = np.array([1.0, 0.4, 2.0])
    plan = course(two_compartments(), [Dose(0.0, 5.0)])
    terms = transport_terms(tissue)
    a = terms.matrix(faces.conductance(d), degradation=0.4)
    end = 3.0

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        cp = 0.5 * float(plan.readout @ y[faces.n :])
        return np.concatenate([a @ y[: faces.n] + terms.source * cp, plan.matrix @ y[faces.n :]])

    start = np.concatenate([np.zeros(faces.n), plan.jumps[0]])
    exact = solve_ivp(slope, (0.0, end), start, method="DOP853", rtol=1e-11, atol=1e-14).y[: faces.n, -1]
    steps, errors = [0.1, 0.05, 0.025, 0.0125], []
    for dt in steps:
        got = transport(tissue, Drug(d, np.array([[-0.4]])), plan, np.array([end]), dt, "upwind").amount[0, 0]
        errors.append(float(np.abs(got - exact).max() / exact.max()))
    orders = np.diff(np.log(errors)) / np.diff(np.log(steps))
    passed = abs(orders[-1] - 2.0) < 0.2 and errors[2] < 1e-3
    return passed, {"dt_h": steps, "relative_error": errors, "order": orders.tolist()}


@check(
    "transport.plasma",
    "The plasma inside a transport run is the plasma on its own",
    "relative difference below 1e-12",
    "the plasma model's own propagation",
)
def plasma(quick: bool) -> Result:
    """A bolus and an infusion off the output grid."""
    faces = rough_domain(shape=(4, 4, 4))
    plan = course(two_compartments(), [Dose(0.0, 5.0), Dose(3.1, 4.0, duration=1.7)])
    times = np.array([0.5, 3.6, 8.0])
    got = transport(rough_tissue(faces, False), Drug(np.full(3, 0.1)), plan, times, 0.3).plasma
    exact = simulate(plan, times)[0]
    e = float(np.abs(got - exact).max() / np.abs(exact).max())
    return e < 1e-12, {"difference": e}
