"""Growth and treatment against closed forms and an independent time integrator."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..domain.grid import Grid
from ..domain.keys import generator
from ..physics.faces import Faces, assemble
from ..physics.growth import GrowthParameters, Heterogeneity, advance
from ..physics.timeline import Timeline, timeline
from .forced import forced_growth
from .gci import observed_orders
from .operator_checks import rough_domain
from .registry import Result, check, largest

DRUG = [(t, 75.0) for t in (1.3, 2.3, 3.3, 8.45)]
FRACTIONS = [(1.31, 2.0), (2.37, 2.0), (2.37, 1.5), (9.77, 3.0)]


def cube(n: int = 4) -> Faces:
    """A small cube of one tissue."""
    shape = (n, n, n)
    return assemble(Grid(shape, (1.0, 1.0, 1.0)), np.ones(shape, bool), np.ones(shape, int), {"white": 1})


@check(
    "growth.logistic",
    "Growth without diffusion is the logistic function, whatever the step",
    "largest error below 1e-13 for steps of 5 and 0.3 days",
    "closed form N0 e^{kt} / (1 + N0 (e^{kt} - 1))",
)
def logistic(quick: bool) -> Result:
    """40 days at k = 0.1 / day, and the generalised law."""
    faces = cube()
    n0 = np.linspace(1e-6, 0.9, faces.n)
    e = np.exp(0.1 * 40.0)
    result: dict[str, Any] = {}
    for dt in (5.0, 0.3):
        for nu in (1.0, 0.7):
            states, _ = advance(
                faces, n0, GrowthParameters.of([0.0], 0.1), timeline(0.0, [40.0], dt_max=dt),
                heterogeneity=Heterogeneity(exponent=nu),
            )  # fmt: skip
            m = n0**nu
            exact = (m * e / (1.0 + m * (e - 1.0))) ** (1.0 / nu)
            result[f"error_dt_{dt:g}_exponent_{nu:g}"] = float(np.abs(states[0, 0] - exact).max())
    return largest(result.values()) < 1e-13, result


@check(
    "growth.gompertz",
    "Gompertz growth without diffusion is its closed form, whatever the step",
    "largest error below 1e-13 for steps of 5 and 0.3 days",
    "closed form N0^(e^{-kt}), the limit of the generalised logistic law",
)
def gompertz(quick: bool) -> Result:
    """40 days at k = 0.1 / day; cells where there are none stay none."""
    faces = cube()
    n0 = np.linspace(1e-6, 0.9, faces.n)
    n0[0] = 0.0
    exact = n0 ** np.exp(-0.1 * 40.0)
    exact[0] = 0.0
    result: dict[str, Any] = {}
    for dt in (5.0, 0.3):
        states, _ = advance(
            faces, n0, GrowthParameters.of([0.0], 0.1), timeline(0.0, [40.0], dt_max=dt),
            heterogeneity=Heterogeneity(exponent=0.0),
        )  # fmt: skip
        result[f"error_dt_{dt:g}"] = float(np.abs(states[0, 0] - exact).max())
    return largest(result.values()) < 1e-13, result


@check(
    "growth.front",
    "A front of Fisher's equation runs at the speed 2 sqrt(D k), corrected for its age",
    "speed between two times within 1 % of the asymptotic expansion",
    "Kolmogorov, Petrovsky & Piskunov 1937; Bramson 1983: x = 2 sqrt(D k) t - (3/2) sqrt(D/k) ln t",
)
def front(quick: bool) -> Result:
    """One dimension, D = 0.1 mm2/day, k = 0.1 / day, between days 300 and 600."""
    d, k, h, length = 0.1, 0.1, 0.2, 160.0
    n = round(length / h)
    shape = (1, 1, n)
    faces = assemble(Grid(shape, (h, h, h)), np.ones(shape, bool), np.ones(shape, int), {"white": 1})
    x = (np.arange(n) + 0.5) * h
    t1, t2 = 300.0, 600.0
    states, _ = advance(
        faces, (x < 2.0).astype(float), GrowthParameters.of([d], k), timeline(0.0, [t1, t2], dt_max=0.05)
    )
    place = [float(np.interp(-0.5, -s, x)) for s in states[0]]
    speed = (place[1] - place[0]) / (t2 - t1)
    expected = 2 * np.sqrt(d * k) - 1.5 * np.sqrt(d / k) * np.log(t2 / t1) / (t2 - t1)
    return abs(speed / expected - 1) < 0.01, {
        "speed_mm_per_day": speed,
        "expansion_mm_per_day": float(expected),
        "asymptote_mm_per_day": float(2 * np.sqrt(d * k)),
    }


@check(
    "growth.wave",
    "The exact travelling wave of Fisher's equation is kept, at second order",
    "order 2 within 0.1 on the finest two of four grids, error below 1e-3",
    "Ablowitz & Zeppetella 1979: N = (1 + e^{z/sqrt 6})^-2 at speed 5/sqrt 6 sqrt(D k)",
)
def wave(quick: bool) -> Result:
    """One dimension, the step in proportion to the cell."""
    d, k, length, end = 0.5, 0.4, 120.0, 20.0
    errors, spacings = [], []
    for n in (120, 240, 480, 960):
        h = length / n
        shape = (1, 1, n)
        faces = assemble(Grid(shape, (h, h, h)), np.ones(shape, bool), np.ones(shape, int), {"white": 1})
        z = ((np.arange(n) + 0.5) * h - 50.0) * np.sqrt(k / d)

        def exact(t: float, z: np.ndarray = z) -> np.ndarray:
            return np.asarray((1.0 + np.exp((z - 5 / np.sqrt(6) * k * t) / np.sqrt(6))) ** -2)

        states, _ = advance(
            faces, exact(0.0), GrowthParameters.of([d], k), timeline(0.0, [end], dt_max=0.5 * h)
        )
        errors.append(float(np.abs(states[0, 0] - exact(end)).max()))
        spacings.append(h)
    orders = observed_orders(spacings, errors)
    return abs(orders[-1] - 2) < 0.1 and errors[-1] < 1e-3, {
        "spacing_mm": spacings,
        "max_error": errors,
        "order": orders,
    }


@check(
    "growth.treatment",
    "Kill by a fast-decaying drug and by fractions off the step grid is exact and does not depend on the step",
    "largest relative error below 1e-12 for steps of 2, 0.37 and 0.01 days",
    "closed form: exp(-alpha w sum (1 - e^{-beta (t - t_i)})/beta) and the linear-quadratic law",
)
def treatment(quick: bool) -> Result:
    """Decay of 9 a day: a drug gone in hours, in steps of days."""
    faces = cube()
    alpha, beta, weight, a_rt, ratio = 0.02, 9.0, 0.6, 0.05, 8.0
    w = np.linspace(0.2, 2.0, faces.n)
    n0 = np.full(faces.n, 0.4)
    at = np.array([2.0, 5.0, 12.0])
    parameters = GrowthParameters.of([0.0], 0.0, alpha, beta, weight, a_rt, ratio)
    drug = np.array([sum(a * (1 - np.exp(-beta * (t - s))) / beta for s, a in DRUG if s < t) for t in at])
    rt = np.array([sum(g * (1 + g / ratio) for s, g in FRACTIONS if s < t) for t in at])
    exact = 0.4 * np.exp(-alpha * np.outer(drug, 1 + weight * (w - 1)) - a_rt * rt[:, None])
    result: dict[str, Any] = {}
    for dt in (2.0, 0.37, 0.01):
        steps = timeline(0.0, at.tolist(), DRUG, FRACTIONS, dt_max=dt)
        states, _ = advance(faces, n0, parameters, steps, exposure=w)
        result[f"error_dt_{dt:g}"] = float(np.abs(states[0] / exact - 1).max())
    return largest(result.values()) < 1e-12, result


@check(
    "growth.sampling",
    "The kill by a decaying drug is integrated: sampled at step ends it would be off by 60 %",
    "integrated kill right to 1e-12 at half-day steps; the kill sampled at step ends off by 55 to 65 %",
    "closed forms: (1 - e^{-beta t})/beta, and dt sum e^{-beta k dt} for the samples",
)
def sampling(quick: bool) -> Result:
    """A drug with a half-life of 5 h (beta = 3.2 / day), one dose on the step grid, 5 days."""
    faces = cube()
    alpha, beta, dt, days = 0.3, 3.2, 0.5, 5.0
    line = timeline(0.0, [days], [(0.0, 1.0)], dt_max=dt)
    states, _ = advance(faces, np.full(faces.n, 0.4), GrowthParameters.of([0.0], 0.0, alpha, beta), line)
    got = float(-np.log(states[0, 0] / 0.4).mean())
    exact = alpha * (1.0 - np.exp(-beta * days)) / beta
    sampled = alpha * dt * sum(np.exp(-beta * dt * k) for k in range(1, round(days / dt) + 1))
    short = float(1.0 - sampled / exact)
    return abs(got / exact - 1.0) < 1e-12 and 0.55 < short < 0.65, {
        "kill": got, "exact": float(exact), "sampled_at_step_ends": float(sampled), "sampled_too_low_by": short,
    }  # fmt: skip


def reference_run(
    faces: Faces, n0: np.ndarray, steps: Timeline, p: dict[str, float], w: np.ndarray, het: Heterogeneity
) -> np.ndarray:
    """The semi-discrete equations by scipy's DOP853 at 1e-11, restarted at each event; shape (V, n)."""
    from scipy.integrate import solve_ivp

    a = faces.operator(np.array([0.06, 0.02, 0.1]))
    weight = 1.0 + p["exposure_weight"] * (w - 1.0)
    growth = np.ones(faces.n) if het.growth is None else het.growth
    sensitive = np.ones(faces.n) if het.radiosensitivity is None else het.radiosensitivity
    nu, beta = het.exponent, p["drug_decay"]
    events = sorted({*(t for t, _ in DRUG), *(t for t, _ in FRACTIONS), *steps.visits.tolist()})
    u, now, out = n0.copy(), 0.0, []
    for time in events:
        doses = [(s, m) for s, m in DRUG if s <= now]

        def slope(t: float, y: np.ndarray, doses: list[tuple[float, float]] = doses) -> np.ndarray:
            amplitude = sum(m * np.exp(-beta * (t - s)) for s, m in doses)
            reaction = p["rate"] * growth / nu * y * (1.0 - np.abs(y) ** nu)
            return np.asarray(a @ y + reaction - p["drug_kill"] * weight * amplitude * y)

        u = solve_ivp(slope, (now, time), u, method="DOP853", rtol=1e-11, atol=1e-13).y[:, -1]
        if time in steps.visits:
            out.append(u)
        for s, g in FRACTIONS:
            if s == time:
                u = u * np.exp(-p["radiosensitivity"] * sensitive * g * (1 + g / p["alpha_beta"]))
        now = time
    return np.array(out)


@check(
    "growth.reference",
    "Growth with drug, fractions and heterogeneity converges at second order to an independent integrator",
    "order 2 within 0.2 on the two finest of four steps, relative error below 1e-3 at a step of 0.1 days",
    "scipy DOP853 at tolerance 1e-11 on the sparse operator, restarted at every event",
)
def reference(quick: bool) -> Result:
    """All mechanisms at once, on a ragged mask of three tissues."""
    faces = rough_domain(shape=(8, 7, 6))
    rng = generator(7, "verification", "reference")
    n0, w = 0.1 + 0.3 * rng.random(faces.n), 0.5 + rng.random(faces.n)
    het = Heterogeneity(0.7 + 0.6 * rng.random(faces.n), 0.7 + 0.6 * rng.random(faces.n), 0.8)
    p = {
        "rate": 0.15, "drug_kill": 0.01, "drug_decay": 3.0, "exposure_weight": 0.7,
        "radiosensitivity": 0.06, "alpha_beta": 9.0,
    }  # fmt: skip
    at = [0.0, 3.0, 6.0, 12.0]
    exact = reference_run(faces, n0, timeline(0.0, at[1:]), p, w, het)
    errors, steps = [], [0.4, 0.2, 0.1, 0.05]
    for dt in steps:
        plan = timeline(0.0, at, DRUG, FRACTIONS, dt_max=dt)
        states, _ = advance(faces, n0, GrowthParameters.of([0.06, 0.02, 0.1], **p), plan, w, het)
        errors.append(float(np.abs(states[0, 1:] / exact - 1).max()))
    orders = observed_orders(steps, errors)
    return abs(orders[-1] - 2) < 0.2 and errors[2] < 1e-3, {
        "dt_days": steps,
        "relative_error": errors,
        "order": orders,
    }


@check(
    "growth.driver",
    "The driver that carries manufactured sources takes the model's own steps",
    "identical to round-off (1e-14) without a source",
    "the model's compiled loop",
)
def driver(quick: bool) -> Result:
    """Short and long steps."""
    faces = rough_domain()
    u = generator(7, "verification", "driver").random(faces.n)
    d = np.array([0.3, 0.07, 0.9])
    worst = 0.0
    for steps in (50, 4):
        states, _ = advance(faces, u, GrowthParameters.of(d, 0.1), timeline(0.0, [5.0], dt_max=5.0 / steps))
        got = forced_growth(faces, u, d, 0.1, lambda t: np.zeros(faces.n), 5.0, steps)
        worst = largest((worst, float(np.abs(got - states[0, 0]).max())))
    return worst < 1e-14, {"difference": worst}
