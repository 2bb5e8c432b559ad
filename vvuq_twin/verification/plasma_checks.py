"""Plasma pharmacokinetics against closed forms."""

from __future__ import annotations

import numpy as np

from ..kinetics.plasma import Dose, PlasmaModel, concentration, course, rate_matrix, simulate
from .registry import Result, check, largest

TIMES = np.linspace(0.0, 12.0, 49)
_ROUND_OFF = "largest error relative to the peak below 1e-12"


def one_compartment(ke: float, volume: float, ka: float | None = None) -> PlasmaModel:
    """One compartment, with a gut where ``ka`` is given."""
    if ka is None:
        return PlasmaModel(("central",), rate_matrix(("central",), {("central", "out"): ke}), volume)
    names = ("gut", "central")
    return PlasmaModel(names, rate_matrix(names, {("gut", "central"): ka, ("central", "out"): ke}), volume)


def error(got: np.ndarray, exact: np.ndarray) -> float:
    """Largest difference relative to the peak."""
    return float(np.abs(got - exact).max() / np.abs(exact).max())


def infusion(t: np.ndarray, dose: float, duration: float, ke: float, volume: float) -> np.ndarray:
    """Closed form of a constant infusion into one compartment."""
    rate = dose / duration
    during = rate / (ke * volume) * (1.0 - np.exp(-ke * np.minimum(t, duration)))
    return np.asarray(during * np.exp(-ke * np.maximum(t - duration, 0.0)))


@check("plasma.bolus", "A bolus into one compartment decays as it should", _ROUND_OFF, "closed form")
def bolus(quick: bool) -> Result:
    """``D/V exp(-k t)``."""
    got = concentration(course(one_compartment(0.7, 12.0), [Dose(0.0, 100.0)]), TIMES)
    e = error(got, 100.0 / 12.0 * np.exp(-0.7 * TIMES))
    return e < 1e-12, {"error": e}


@check("plasma.infusion", "An infusion rises and falls as it should", _ROUND_OFF, "closed form")
def infused(quick: bool) -> Result:
    """Constant rate for 2.3 h, off the sampling grid."""
    plan = course(one_compartment(0.7, 12.0), [Dose(0.0, 100.0, duration=2.3)])
    e = error(concentration(plan, TIMES), infusion(TIMES, 100.0, 2.3, 0.7, 12.0))
    return e < 1e-12, {"error": e}


@check(
    "plasma.oral",
    "An oral dose follows Bateman's function, also where absorption and elimination are equally fast",
    _ROUND_OFF,
    "Bateman's function and its limit",
)
def oral(quick: bool) -> Result:
    """ka = 5.8 and ka = ke."""
    ke, v = 0.33, 30.3
    got = concentration(course(one_compartment(ke, v, 5.8), [Dose(0.0, 150.0, "gut")]), TIMES)
    exact = 150.0 / v * 5.8 / (5.8 - ke) * (np.exp(-ke * TIMES) - np.exp(-5.8 * TIMES))
    same = concentration(course(one_compartment(ke, v, ke), [Dose(0.0, 150.0, "gut")]), TIMES)
    e = [error(got, exact), error(same, 150.0 / v * ke * TIMES * np.exp(-ke * TIMES))]
    return largest(e) < 1e-12, {"error": e[0], "error_equal_rates": e[1]}


@check("plasma.two_compartments", "Two compartments follow the bi-exponential", _ROUND_OFF, "closed form")
def two_compartments(quick: bool) -> Result:
    """Micro-constants to the macro-constants by the quadratic formula."""
    k10, k12, k21, v = 1.15, 3.15, 5.01, 8.0
    names = ("central", "peripheral")
    flows = {("central", "peripheral"): k12, ("peripheral", "central"): k21, ("central", "out"): k10}
    got = concentration(course(PlasmaModel(names, rate_matrix(names, flows), v), [Dose(0.0, 7.0)]), TIMES)
    s, p = k10 + k12 + k21, k10 * k21
    a, b = (s + np.sqrt(s * s - 4 * p)) / 2, (s - np.sqrt(s * s - 4 * p)) / 2
    exact = 7.0 / v / (a - b) * ((a - k21) * np.exp(-a * TIMES) + (k21 - b) * np.exp(-b * TIMES))
    e = error(got, exact)
    return e < 1e-12, {"error": e}


@check(
    "plasma.repeated",
    "Repeated doses add up and reach the steady state",
    _ROUND_OFF,
    "geometric sum of the single dose: D/V exp(-k t) (1 - exp(-n k tau))/(1 - exp(-k tau))",
)
def repeated(quick: bool) -> Result:
    """Twenty doses, after the last."""
    ke, v, tau, n = 0.2, 10.0, 6.0, 20
    plan = course(one_compartment(ke, v), [Dose(i * tau, 50.0) for i in range(n)])
    last = (n - 1) * tau
    got = concentration(plan, last + TIMES)
    exact = 50.0 / v * np.exp(-ke * TIMES) * (1 - np.exp(-n * ke * tau)) / (1 - np.exp(-ke * tau))
    e = error(got, exact)
    return e < 1e-12, {"error": e}


@check(
    "plasma.exposure",
    "The area under the curve is dose over clearance, and the integral runs into it",
    "relative error below 1e-12",
    "AUC = F D / (k V)",
)
def exposure(quick: bool) -> Result:
    """Oral and infused doses together."""
    ke, v = 0.33, 30.3
    model = one_compartment(ke, v, 5.8)
    plan = course(model, [Dose(0.0, 150.0, "gut"), Dose(24.0, 60.0, duration=1.5)])
    auc = 210.0 / (ke * v)
    late = (simulate(plan, np.array([150.0]))[1] * plan.readout).sum(axis=-1)[0]
    e = [abs(float(plan.total_exposure()) / auc - 1), abs(float(late) / auc - 1)]
    return largest(e) < 1e-12, {"error_algebraic": e[0], "error_integrated": e[1]}
