"""Local kinetics of several species in a voxel: against integrators of their own, closed forms and limits."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..domain.grid import Grid
from ..domain.keys import generator
from ..kinetics.measured import measured_course
from ..kinetics.plasma import Dose, PlasmaModel, course, rate_matrix
from ..physics.agents import load_agent
from ..physics.drug import Binding, Drug, Exchange
from ..physics.faces import Faces, assemble
from ..physics.interstitium import load_fluid_tissues
from ..physics.pressure import Flow
from ..physics.tissue import Tissue, across_wall
from ..physics.transport import Injection, transport
from .gci import observed_orders
from .registry import Result, check, largest


def alone(n: int) -> Faces:
    """n voxels that touch nothing: local kinetics only."""
    mask = np.zeros((2 * n, 1, 1), bool)
    mask[::2] = True
    return assemble(Grid(mask.shape, (1.0, 1.0, 1.0)), mask, np.ones(mask.shape, int), {"tumour": 1})  # type: ignore[arg-type]


def still(faces: Faces, filtered: np.ndarray, drained: np.ndarray) -> Flow:
    """A flow that crosses the walls but does not move in the tissue."""
    none, z = np.zeros(faces.box), np.zeros(faces.n)
    return Flow(z, (none, none, none), filtered, drained, z, z, z, 0.0, 0)


def one_compartment(rate: float, volume: float = 10.0, unbound: float = 0.25) -> PlasmaModel:
    """A bolus that decays with one rate (1/h)."""
    names = ("central",)
    return PlasmaModel(names, rate_matrix(names, {("central", "out"): rate}), volume, unbound)


def doxorubicin_slope(t: float, y: np.ndarray, dose: float, filtered: float, lymph: float) -> np.ndarray:
    """Doxorubicin in one tumour voxel, written out from the equations: amounts per L, hours."""
    cf, cb, ci = y
    phi, surface, f_u = 0.4, 20.0, 0.25
    cp = dose * sum(
        a * np.exp(-k * 3600.0 * t) for a, k in ((74.6, 2.69e-3), (2.49, 2.83e-4), (0.552, 1.18e-5))
    )
    cp /= 1000.0

    def wall(p: float, sigma: float, plasma: float, c: float) -> float:
        ps = p * 3.6e6 * surface  # m/s to mm/h
        pe = filtered * (1.0 - sigma) / ps
        return float(filtered * (1.0 - sigma) * plasma + ps * (plasma - c) * pe / np.expm1(pe))

    c, b = cf / phi, cb / phi
    kg = 1e6 * 3600.0
    density = 1e15 / 1e5 / 1000.0
    q = ci / density
    zeta = 4.67e-15 * kg * c / (c + 0.219)
    efflux = 4.67e-15 * kg * q / (q + 1.37e-6)
    link = 0.833 * 3600.0 * cf - 0.278 * 3600.0 * cb
    uptake = density * (zeta - efflux)
    return np.array(
        [
            wall(3.0e-6, 0.15, f_u * cp, c) - lymph * c - link - uptake,
            wall(7.8e-9, 0.82, (1.0 - f_u) * cp, b) - lymph * b + link,
            uptake,
        ]
    )


def doxorubicin_voxel(dt: float, times: np.ndarray, change: float) -> np.ndarray:
    """The same by the transport model: amounts (T, 3)."""
    faces = alone(1)
    agent = load_agent("doxorubicin")
    flow = still(faces, np.full(1, 0.5), np.full(1, 0.2))
    tissue = Tissue.of(faces, load_fluid_tissues(), flow)
    plan = course(agent.plasma_model(), [Dose(0.0, 90.0)])
    run = transport(tissue, agent.drug(faces.names), plan, times, dt, change=change)
    return np.asarray(run.amount[:, :, 0])


@check(
    "species.doxorubicin",
    "Doxorubicin's local kinetics (solvent drag, lymph, protein binding, saturable uptake and efflux) are those of an "
    "independent integration, at steps far beyond the fastest rate",
    "largest relative difference of every species at 0.05 to 12 h below the tolerance, 0.005 and 0.00125, at a step of 60 s",
    "scipy Radau at 1e-10 on the equations written out once more",
)
def doxorubicin(quick: bool) -> Result:
    """One tumour voxel, a bolus; the fastest rate is 4000 per hour."""
    from scipy.integrate import solve_ivp

    times = np.array([0.05, 0.25, 1.0] if quick else [0.05, 0.25, 1.0, 4.0, 12.0])
    exact = solve_ivp(
        doxorubicin_slope, (0.0, times[-1]), np.zeros(3), "Radau", times, args=(90.0, 0.5, 0.2), rtol=1e-10,
        atol=1e-16, first_step=1e-7,
    ).y.T  # fmt: skip
    tolerance, errors = [0.005, 0.00125], []
    for change in tolerance:
        got = doxorubicin_voxel(1.0 / 60.0, times, change)
        errors.append(float(np.abs(got / exact - 1.0).max()))
    passed = all(e < t for e, t in zip(errors, tolerance))
    return passed, {"tolerance": tolerance, "relative_difference": errors}


def receptor(k_on: float, capacity: float, dt: float, end: float, change: float) -> np.ndarray:
    """A closed voxel with an injected ligand and receptors: (free, bound, internalised) at the end."""
    faces = alone(1)
    r = np.array([[0.0, 0.7, 0.1], [0.0, -1.2, 0.0], [0.0, 0.5, -0.1]])
    one = np.ones(1)
    drug = Drug(
        np.zeros(1), r, ("free", "bound", "inside"), exchange=(Exchange(enters=False),),
        binding=(Binding(0, 1, k_on * one, capacity * one),),
    )  # fmt: skip
    tissue = Tissue(faces, np.zeros(1), np.full(1, 0.3))
    plan = course(one_compartment(1.0), [Dose(0.0, 0.0)])
    start = Injection(0.0, np.full(1, 5.0))
    got = transport(tissue, drug, plan, np.array([0.0, end]), dt, injections=[start], change=change)
    return np.asarray(got.amount[-1, :, 0])


@check(
    "species.binding",
    "Saturable binding to receptors converges at second order and is linear binding where receptors are many",
    "order 2 within 0.1 on the two finest of four steps; with k_on B_max fixed and B_max = 1e9 the linear system to 1e-7",
    "scipy DOP853 at 1e-12; matrix exponential",
)
def binding(quick: bool) -> Result:
    """A closed voxel with internalisation and recycling; no halving of steps."""
    from scipy.integrate import solve_ivp
    from scipy.linalg import expm

    def slope(t: float, y: np.ndarray) -> list[float]:
        on = 0.6 * (2.0 - y[1]) * y[0] / 0.3
        return [-on + 0.7 * y[1] + 0.1 * y[2], on - 1.2 * y[1], 0.5 * y[1] - 0.1 * y[2]]

    exact = solve_ivp(slope, (0.0, 2.0), [5.0, 0.0, 0.0], "DOP853", rtol=1e-12, atol=1e-14).y[:, -1]
    steps = [0.1, 0.05, 0.025, 0.0125]
    errors = [float(np.abs(receptor(0.6, 2.0, dt, 2.0, 1e9) - exact).max()) for dt in steps]
    orders = observed_orders(steps, errors)
    k = np.array([[-4.0, 0.7, 0.1], [4.0, -1.2, 0.0], [0.0, 0.5, -0.1]])
    linear = expm(2.0 * k) @ np.array([5.0, 0.0, 0.0])
    far = float(np.abs(receptor(1.2e-9, 1e9, 0.1, 2.0, 1e9) - linear).max())
    passed = abs(orders[-1] - 2.0) <= 0.1 and far < 1e-7
    return passed, {"dt_h": steps, "error": errors, "order": orders, "linear_limit_difference": far}


@check(
    "species.linear",
    "Linear local kinetics of a carrier, free, bound and internalised drug with an infusion into the tissue are exact for "
    "any step",
    "largest relative difference below 1e-11 at steps of 2 and 0.3 h",
    "scipy Radau at 1e-12 on the equations of the system",
)
def linear(quick: bool) -> Result:
    """Eight voxels of different maps, a carrier in its own plasma compartment."""
    from scipy.integrate import solve_ivp

    faces, rng = alone(8), generator(5, "verification", "linear kinetics")
    names = ("carrier", "central")
    flows = {("carrier", "central"): 0.4, ("carrier", "out"): 0.1, ("central", "out"): 0.8}
    model = PlasmaModel(names, rate_matrix(names, flows), 9.0, 0.3, central="central")
    plan = course(model, [Dose(0.0, 20.0, "carrier")])
    species = ("free", "bound", "carrier", "cell")
    r = np.zeros((4, 4))
    for source, target, rate in ((0, 1, 3.0), (1, 0, 1.0), (2, 0, 0.6), (0, 3, 0.5), (3, 0, 0.05)):
        r[source, source] -= rate
        r[target, source] += rate
    r[3, 3] -= 0.02
    p = [np.array([x]) for x in (0.5, 0.02, 0.01)]
    sigma = [np.array([x]) for x in (0.1, 0.8, 0.95)]
    drug = Drug(
        np.zeros((3, 1)), r, species,
        exchange=(
            Exchange(p[0], sigma[0]),
            Exchange(p[1], sigma[1], bound=True),
            Exchange(p[2], sigma[2], compartment="carrier", volume=3.0, share=1.0),
        ),
    )  # fmt: skip
    phi, surface = 0.2 + 0.3 * rng.random(8), 5.0 + 10.0 * rng.random(8)
    filtered, drained = 0.6 * rng.standard_normal(8), 0.3 * rng.random(8)
    supply = np.vstack([rng.random(8), np.zeros(8), rng.random(8)])
    tissue = Tissue(
        faces, np.zeros(8), phi, flow=still(faces, filtered, drained), surface=surface, supply=supply
    )

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        c, plasma = y[:-2].reshape(4, 8), y[-2:]
        seen = (0.3 * plasma[1] / 9.0, 0.7 * plasma[1] / 9.0, plasma[0] / 3.0)
        out = r @ c
        for s in range(3):
            ps, drag = p[s][0] * surface, filtered * (1.0 - sigma[s][0])
            pe = drag / ps
            out[s] += drag * seen[s] + ps * (seen[s] - c[s] / phi) * pe / np.expm1(pe)
            out[s] += supply[s] - drained * c[s] / phi
        return np.concatenate([out.ravel(), [-0.5 * plasma[0], 0.4 * plasma[0] - 0.8 * plasma[1]]])

    end = 6.0
    start = np.concatenate([np.zeros(32), [20.0, 0.0]])
    exact = solve_ivp(slope, (0.0, end), start, "Radau", rtol=1e-12, atol=1e-14).y[:32, -1].reshape(4, 8)
    result: dict[str, Any] = {}
    for dt in (2.0, 0.3):
        got = transport(tissue, drug, plan, np.array([end]), dt)
        result[f"difference_dt_{dt:g}_h"] = float(np.abs(got.amount[0] / exact - 1.0).max())
        result[f"ledger_dt_{dt:g}_h"] = float(np.abs(got.ledger.residual).max())
    return largest(result.values()) < 1e-11, result


@check(
    "species.wall",
    "Exchange across a vessel's wall has the Peclet factor and its limits for either sign of the filtration",
    "relative difference below 1e-12 for Peclet numbers from -30 to 30; exact limits at 0, large, and an impermeable wall",
    "J = phi_v (1 - sigma) Cp + P S/V (Cp - c) Pe/(exp(Pe) - 1) in 50 digits",
)
def wall(quick: bool) -> Result:
    """Compared with the formula in long arithmetic."""
    import mpmath

    worst = 0.0
    with mpmath.workdps(50):
        for pe in (-30.0, -3.0, -0.1, -1e-4, -1e-6, 1e-9, 1e-6, 1e-4, 0.1, 3.0, 30.0):
            gain, back = across_wall(np.array([2.0]), np.array([2.0 * pe]))
            x = mpmath.mpf(2.0 * pe) / 2
            exact_back = 2 * x / mpmath.expm1(x)
            exact_gain = 2 * x + exact_back
            worst = largest(
                (worst, abs(float(gain[0] / exact_gain - 1)), abs(float(back[0] / exact_back - 1)))
            )
    still_gain, still_back = across_wall(np.array([2.0, 0.0]), np.zeros(2))
    in_gain, in_back = across_wall(np.array([0.0, 1e-12]), np.array([3.0, 3.0]))
    out_gain, out_back = across_wall(np.array([0.0, 1e-12]), np.array([-3.0, -3.0]))
    limits = largest(
        float(np.abs(a - b).max())
        for a, b in (
            (still_gain, np.array([2.0, 0.0])), (still_back, np.array([2.0, 0.0])),
            (in_gain, np.full(2, 3.0)), (in_back, np.zeros(2)), (out_gain, np.zeros(2)), (out_back, np.full(2, 3.0)),
        )
    )  # fmt: skip
    return worst < 1e-12 and limits < 1e-9, {"relative_difference": worst, "limits_difference": limits}


@check(
    "species.limits",
    "Pure decay, pure exchange and pure release are their exponentials for any step",
    "largest relative difference below 1e-12 at steps of 5 and 0.4 h",
    "closed forms",
)
def limits(quick: bool) -> Result:
    """Three voxels' worth of one mechanism each."""
    faces = alone(1)
    plain = Tissue(faces, np.zeros(1), np.full(1, 0.3))
    none = course(one_compartment(1.0), [Dose(0.0, 0.0)])
    end, worst = 10.0, 0.0
    start = Injection(0.0, np.full(1, 2.0))
    for dt in (5.0, 0.4):
        decay = Drug(np.zeros(1), np.array([[-0.3]]))
        got = transport(plain, decay, none, np.array([0.0, end]), dt, injections=[start]).amount[-1, 0, 0]
        worst = largest((worst, abs(got / (2.0 * np.exp(-3.0)) - 1.0)))
        leaky = Tissue(faces, np.full(1, 0.12), np.full(1, 0.3))
        got = transport(leaky, Drug(np.zeros(1)), none, np.array([0.0, end]), dt, injections=[start]).amount[
            -1, 0, 0
        ]
        worst = largest((worst, abs(got / (2.0 * np.exp(-4.0)) - 1.0)))
        closed = Tissue(faces, np.zeros(1), np.full(1, 0.3), surface=np.ones(1))
        shut = Exchange(np.zeros(1), enters=False)
        rates = np.array([[0.0, 0.2], [0.0, -0.2]])
        release = Drug(np.zeros((2, 1)), rates, ("free", "carrier"), exchange=(shut, shut))
        inside = Injection(0.0, np.full(1, 2.0), species=1)
        got = transport(closed, release, none, np.array([0.0, end]), dt, injections=[inside]).amount[-1, :, 0]
        worst = largest(
            (worst, abs(got[1] / (2.0 * np.exp(-2.0)) - 1.0), abs(got[0] / (-2.0 * np.expm1(-2.0)) - 1.0))
        )
    return worst < 1e-12, {"relative_difference": float(worst)}


@check(
    "species.sampled",
    "A sampled arterial input, linear between its samples, feeds the tissue exactly",
    "largest relative difference below 1e-11 for steps of 1 and 0.05 h",
    "closed form of the convolution of each straight piece with the exponential",
)
def sampled(quick: bool) -> Result:
    """Ten uneven samples, three voxels."""
    rng = generator(5, "verification", "sampled input")
    nodes = np.concatenate([[0.0], np.cumsum(0.1 + rng.random(9))])
    values = np.concatenate([[0.0], rng.random(9)])
    plan = measured_course(nodes, values, tail=1.0)
    faces = alone(3)
    ktrans, phi = np.array([0.2, 1.0, 5.0]), np.array([0.2, 0.3, 0.5])
    exact, k = np.zeros(3), ktrans / phi
    for t0, t1, a, b in zip(nodes, nodes[1:], values, values[1:]):
        h, rise = t1 - t0, (b - a) / (t1 - t0)
        e = np.exp(-k * h)
        exact = exact * e + ktrans * (a * (1 - e) / k + rise * (h / k - (1 - e) / k**2))
    result = {}
    for dt in (1.0, 0.05):
        got = transport(Tissue(faces, ktrans, phi), Drug(np.zeros(1)), plan, np.array([nodes[-1]]), dt)
        result[f"difference_dt_{dt:g}_h"] = float(np.abs(got.amount[0, 0] / exact - 1.0).max())
    return largest(result.values()) < 1e-11, dict(result)
