"""Kill by dose rates and by the transport model's own concentrations."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..domain.grid import Grid
from ..domain.keys import generator
from ..kinetics.plasma import Course, Dose, PlasmaModel, course, rate_matrix
from ..physics.drug import Drug
from ..physics.effect import Hill, Linear
from ..physics.faces import Faces, assemble
from ..physics.growth import GrowthParameters, advance
from ..physics.response import coupled_growth, dose_rate_kill, superposed_kill
from ..physics.timeline import timeline
from ..physics.tissue import Tissue
from ..physics.transport import transport
from .registry import Result, check, largest

KE, VOLUME = 0.4, 10.0
#: Drug in tissue: a loss of 0.2 1/h, so that a dose is gone within a day.
LOSS = 0.2


def block(shape: tuple[int, int, int] = (6, 5, 7)) -> Faces:
    """A ragged block of one tissue."""
    mask = generator(17, "verification", "response").random(shape) < 0.9
    return assemble(Grid(shape, (2.0, 2.0, 2.5)), mask, np.ones(shape, dtype=int), {"white": 1})


def one_voxel() -> Faces:
    """A single voxel."""
    shape = (1, 1, 1)
    return assemble(Grid(shape, (2.0, 2.0, 2.0)), np.ones(shape, bool), np.ones(shape, int), {"white": 1})


def plasma(doses: list[Dose]) -> Course:
    """One compartment."""
    names = ("central",)
    return course(PlasmaModel(names, rate_matrix(names, {("central", "out"): KE}), VOLUME), doses)


def perfused(faces: Faces) -> Tissue:
    """A tissue whose exchange varies fourfold."""
    rng = generator(17, "verification", "perfused")
    return Tissue(faces, 0.3 + rng.random(faces.n), np.full(faces.n, 0.3))


@check(
    "response.exposure",
    "The kill of a coupled run is the transport model's own exposure, whatever the growth step; drug is conserved",
    "relative difference below 1e-3 for growth steps of 0.5 and 2 days; log kill in the cells equal to it to 1e-11, "
    "mass balance 1e-12",
    "one transport run on its own, in steps of a tenth of the coupled run's",
)
def exposure(quick: bool) -> Result:
    """A bolus, an infusion and another bolus, off the growth steps; no growth."""
    faces = block()
    tissue, drug = perfused(faces), Drug(np.array([1.0]), np.array([[-LOSS]]))
    plan = plasma([Dose(24.0, 5.0), Dose(30.0, 3.0, duration=2.0), Dose(60.5, 4.0)])
    exact = transport(tissue, drug, plan, np.array([48.0, 96.0]), 0.02).exposure[:, 0]
    found: dict[str, float] = {}
    for dt in (0.5, 2.0):
        got = coupled_growth(
            faces, np.full(faces.n, 0.4), GrowthParameters.of([0.0], 0.0), timeline(0.0, [2.0, 4.0], dt_max=dt),
            drug, plan, Linear(0.05), lambda n: tissue, dt_hours=0.2,
        )  # fmt: skip
        found[f"error_dt_{dt:g}_d"] = float(np.abs(got.kill / (0.05 * exact) - 1.0).max())
        found[f"in_cells_dt_{dt:g}_d"] = float(np.abs(-np.log(got.states / 0.4) / got.kill - 1.0).max())
        found[f"balance_dt_{dt:g}_d"] = float(np.abs(got.balance.residual).max())
    passed = all(
        v < {"error": 1e-3, "in": 1e-11, "balance": 1e-12}[k.split("_")[0]] for k, v in found.items()
    )
    return passed, dict(found)


@check(
    "response.hill",
    "The kill by a saturating (Hill) effect is integrated along the course of the concentration, at second order",
    "order 2 within 0.2 in the transport step, relative error below 1e-3 at 0.05 h, in one growth step of a quarter of a day",
    "scipy DOP853 at tolerance 1e-11 on plasma, tissue and kill together",
)
def hill(quick: bool) -> Result:
    """One voxel; the concentration is still high at the end, so that its last value counts."""
    from scipy.integrate import solve_ivp

    place = Tissue(one_voxel(), np.array([0.8]), np.array([0.3]))
    law = Hill(0.05, 0.05, 1.0)

    def slope(t: float, y: np.ndarray) -> list[float]:
        return [-KE * y[0], 0.8 * (y[0] / VOLUME - y[1] / 0.3), float(law.rate(y[1:2])[0])]

    exact = solve_ivp(slope, (0.0, 6.0), [5.0, 0.0, 0.0], method="DOP853", rtol=1e-11, atol=1e-14).y[2, -1]
    steps, errors = [0.4, 0.2, 0.1, 0.05], []
    for dt in steps:
        got = coupled_growth(
            place.faces, np.array([0.4]), GrowthParameters.of([0.0], 0.0), timeline(0.0, [0.25], dt_max=1.0),
            Drug(np.array([0.0])), plasma([Dose(0.0, 5.0)]), law, lambda n: place, dt_hours=dt,
        )  # fmt: skip
        errors.append(float(abs(got.kill[0, 0] / exact - 1.0)))
    orders = (np.diff(np.log(errors)) / np.diff(np.log(steps))).tolist()
    return abs(orders[-1] - 2.0) < 0.2 and errors[-1] < 1e-3, {
        "dt_h": steps,
        "error": errors,
        "order": orders,
    }


@check(
    "response.coupled",
    "Tumour and drug change each other as they should: cells take the drug up and die of it",
    "relative error of cellularity falling at first order or better, below 2e-4 at a growth step of 0.025 days",
    "scipy DOP853 at tolerance 1e-11 on plasma, tissue and cells together",
)
def coupled(quick: bool) -> Result:
    """One voxel, exchange in proportion to cellularity, two doses."""
    from scipy.integrate import solve_ivp

    faces, k, kill = one_voxel(), 0.1, 0.5

    def slope(t: float, y: np.ndarray) -> list[float]:
        exchange = (0.2 + 2.0 * y[2]) * (y[0] / VOLUME - y[1] / 0.3)
        return [-KE * y[0], exchange, k / 24.0 * y[2] * (1.0 - y[2]) - kill * y[1] * y[2]]

    y = np.array([5.0, 0.0, 0.5])
    for low in (0.0, 48.0):
        y = solve_ivp(slope, (low, low + 48.0), y, method="DOP853", rtol=1e-11, atol=1e-14).y[:, -1]
        y[0] += 5.0 if low == 0.0 else 0.0
    steps, errors = [0.1, 0.05, 0.025], []
    for dt in steps:
        got = coupled_growth(
            faces, np.array([0.5]), GrowthParameters.of([0.0], k), timeline(0.0, [4.0], dt_max=dt),
            Drug(np.array([0.0])), plasma([Dose(0.0, 5.0), Dose(48.0, 5.0)]), Linear(kill),
            lambda n: Tissue(faces, 0.2 + 2.0 * n, np.array([0.3])), dt_hours=0.05,
        )  # fmt: skip
        errors.append(float(abs(got.states[0, 0] / y[2] - 1.0)))
    orders = (np.diff(np.log(errors)) / np.diff(np.log(steps))).tolist()
    return min(orders) > 0.9 and errors[-1] < 2e-4, {"dt_days": steps, "error": errors, "order": orders}


@check(
    "response.superposition",
    "Exposures of one dose, superposed with the tumour frozen, do what the two-way run does for a short-lived drug",
    "total cellularity after three doses and 8 days within 1 %; for a drug a hundred times slower the difference is reported",
    "the coupled run, exchange in proportion to cellularity",
)
def superposition(quick: bool) -> Result:
    """Ktrans follows cellularity; the slow drug stays while the tumour shrinks."""
    faces = block()
    base = perfused(faces)
    start = 0.2 + 0.4 * generator(17, "verification", "start").random(faces.n)
    doses = [(1.0, 5.0), (2.0, 3.0), (4.3, 4.0)]
    found: dict[str, Any] = {}
    for name, loss, slope, hours in (("short", LOSS, 1.0, 48.0), ("long", LOSS / 100.0, 1.0, 24.0 * 40)):
        drug = Drug(np.array([1.0]), np.array([[-loss]]))
        factor = 1.0 if name == "short" else 0.01

        def tissue_of(n: np.ndarray, factor: float = factor) -> Tissue:
            return Tissue(faces, factor * base.ktrans * (0.5 + n), base.phi)

        t = np.linspace(0.0, hours, 193)
        unit = transport(tissue_of(start), drug, plasma([Dose(0.0, 1.0)]), t, 0.25).exposure[:, 0]
        line = timeline(0.0, [8.0], dt_max=0.5)
        p = GrowthParameters.of([0.1], 0.05)
        plan = plasma([Dose(24.0 * day, given) for day, given in doses])
        two = coupled_growth(faces, start, p, line, drug, plan, Linear(slope), tissue_of, dt_hours=0.25)
        one, _ = advance(faces, start, p, line, kill=superposed_kill(line, doses, t, unit, slope))
        found[f"difference_{name}_percent"] = 100.0 * float(abs(one[0, 0].sum() / two.states[0].sum() - 1.0))
        found[f"survivors_{name}"] = float(two.states[0].sum() / start.sum())
    return found["difference_short_percent"] < 1.0, found


@check(
    "response.dose_rate",
    "A decaying dose rate kills by the linear-quadratic law with the Lea-Catcheside factor, in growth steps of a day",
    "relative error of log survival below 1e-3 for steps of 1 and 0.3 days, dose map included",
    "closed form: alpha w D + beta w^2 G D^2, G = lambda/(lambda + mu)",
)
def dose_rate(quick: bool) -> Result:
    """30 days of a rate that decays at 0.02 per hour; repair 0.3648 per hour."""
    faces = block()
    mu, lam, alpha, beta, first = 0.3648, 0.02, 0.1, 0.02, 0.5
    w = np.linspace(0.5, 1.5, faces.n)
    hours = np.linspace(0.0, 48.0, 97)
    dose = first / lam * (1.0 - np.exp(-lam * 720.0))
    effect = alpha * w * dose + beta * w**2 * lam / (lam + mu) * (first / lam) ** 2
    found = {}
    for dt in (1.0, 0.3):
        line = timeline(0.0, [30.0], dt_max=dt)
        kill = dose_rate_kill(line, hours, first * np.exp(-lam * hours), alpha, beta, mu, w, tail=lam)
        states, _ = advance(faces, np.full(faces.n, 0.4), GrowthParameters.of([0.0], 0.0), line, kill=kill)
        found[f"error_dt_{dt:g}_d"] = float(np.abs(-np.log(states[0, 0] / 0.4) / effect - 1.0).max())
    return largest(found.values()) < 1e-3, dict(found)
