"""Nonlinear kinetics, given plasma curves, the body model and the dose-rate effect."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kinetics.aif import plasma as population
from ..kinetics.dose_rate import dose_effect
from ..kinetics.measured import population_course
from ..kinetics.network import Network, Reaction, simulate_network
from ..kinetics.pbpk import Body, Injection
from ..kinetics.plasma import Dose, PlasmaModel, concentration, course, rate_matrix, simulate
from ..physics.agents import load_agent
from .registry import NotAssessed, Result, check, largest

TIMES = np.linspace(0.0, 20.0, 41)
#: Hours after an injection of a radioligand.
HOURS = np.array([0.0, 0.05, 0.3, 1.0, 4.0, 24.0, 72.0, 200.0])
PLACES = ("kidneys", "salivary", "liver", "spleen", "marrow", "tumour", "rest", "blood", "excreted")


@check(
    "plasma.saturable",
    "Michaelis-Menten elimination follows its closed form, and its area under the curve too",
    "error below 1e-9 of the peak at a tolerance of 1e-9, amount and eliminated amount add up to 1e-12",
    "Schnell & Mendoza 1997: c = Km W(c0/Km exp((c0 - Vmax t)/Km)), W Lambert's function",
)
def saturable(quick: bool) -> Result:
    """From far above to far below saturation."""
    from scipy.special import lambertw

    vmax, half, dose = 5.0, 3.0, 40.0
    net = Network(("central",), (Reaction(("central",), ("out",), vmax, half=half),))
    run = simulate_network(net, [Dose(0.0, dose)], TIMES, rtol=1e-9, atol=1e-12)
    exact = half * np.real(lambertw(dose / half * np.exp((dose - vmax * TIMES) / half), 0, 1e-14))
    area = (dose - exact) * (half + (dose + exact) / 2.0) / vmax
    found = {
        "error": float(np.abs(run.of("central")[0] - exact).max() / dose),
        "error_of_area": float(np.abs(run.integral_of("central")[0] - area).max() / area.max()),
        "balance": float(np.abs(run.of("central", "out") / dose - 1.0).max()),
        "least": float(run.amounts.min()),
    }
    passed = found["error"] < 1e-9 and found["error_of_area"] < 1e-9 and found["balance"] < 1e-12
    return passed and found["least"] > -1e-9, found


@check(
    "plasma.population",
    "The population input that feeds tissue is Parker's curve, and its area",
    "chords within 2e-4 of the peak, area within 1e-4",
    "the function itself at 2000 times, its area by adaptive quadrature",
)
def population_input(quick: bool) -> Result:
    """Linear between knots chosen by their chords."""
    from scipy.integrate import quad

    plan = population_course()
    t = np.linspace(0.0, 2.0, 2001)
    exact = population(60.0 * t)
    area = quad(lambda h: float(population(np.array([60.0 * h]))[0]), 0.0, 3.0, limit=500, epsabs=1e-9)[0]
    got = simulate(plan, np.array([3.0]))[1] @ plan.readout
    found = {
        "error": float(np.abs(concentration(plan, t) - exact).max() / exact.max()),
        "error_of_area": abs(float(got[0]) / area - 1.0),
        "knots": len(plan.times),
    }
    return found["error"] < 2e-4 and found["error_of_area"] < 1e-4, found


def three_compartments() -> tuple[PlasmaModel, list[Dose]]:
    """A gut and three compartments; a tablet, an infusion and a bolus."""
    names = ("gut", "central", "shallow", "deep")
    flows = {
        ("gut", "central"): 1.2, ("central", "out"): 0.3, ("central", "shallow"): 0.9, ("shallow", "central"): 0.6,
        ("central", "deep"): 0.2, ("deep", "central"): 0.02,
    }  # fmt: skip
    doses = [Dose(0.0, 80.0, "gut"), Dose(2.3, 30.0, duration=1.7), Dose(11.1, 20.0)]
    return PlasmaModel(names, rate_matrix(names, flows), 10.0), doses


def integrated(solve: Any) -> np.ndarray:
    """Plasma concentration at ``TIMES`` where ``solve(matrix, feed, y, t0, t1)`` goes between the doses' times."""
    model, doses = three_compartments()
    edges = np.unique(np.concatenate([TIMES, *([d.time, d.time + d.duration] for d in doses)]))
    y, out = np.zeros(4), {}
    for i, now in enumerate(edges.tolist()):
        for d in doses:
            if d.duration == 0 and d.time == now:
                y = y + d.amount * np.eye(4)[model.index(d.compartment)]
        out[now] = y[1] / 10.0
        if i + 1 < len(edges):
            feed = np.zeros(4)
            for d in doses:
                if d.duration and d.time <= now < d.time + d.duration:
                    feed[model.index(d.compartment)] += d.amount / d.duration
            y = solve(np.asarray(model.matrix), feed, y, now, float(edges[i + 1]))
    return np.array([out[t] for t in TIMES.tolist()])


@check(
    "plasma.scipy",
    "Three compartments with oral, infused and bolus doses are those of an independent integrator",
    "relative difference below 1e-9",
    "scipy DOP853 at tolerance 1e-12, restarted at every dose",
)
def against_scipy(quick: bool) -> Result:
    """Code to code."""
    from scipy.integrate import solve_ivp

    def solve(k: np.ndarray, feed: np.ndarray, y: np.ndarray, t0: float, t1: float) -> np.ndarray:
        got = solve_ivp(lambda t, x: k @ x + feed, (t0, t1), y, method="DOP853", rtol=1e-12, atol=1e-13)
        return np.asarray(got.y[:, -1])

    exact = integrated(solve)
    error = float(np.abs(concentration(course(*three_compartments()), TIMES) - exact).max() / exact.max())
    return error < 1e-9, {"difference": error}


@check(
    "plasma.diffrax",
    "The same doses are those of a second independent integrator, an implicit one",
    "relative difference below 1e-8",
    "diffrax Kvaerno5 at tolerance 1e-11, restarted at every dose",
)
def against_diffrax(quick: bool) -> Result:
    """Code to code."""
    try:
        import diffrax
    except ImportError as missing:
        raise NotAssessed("diffrax is not installed; it comes with the extra 'test'") from missing
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    term = diffrax.ODETerm(lambda t, x, args: args[0] @ x + args[1])
    control = diffrax.PIDController(rtol=1e-11, atol=1e-12)

    @jax.jit
    def between(k: Any, feed: Any, y: Any, t0: Any, t1: Any) -> Any:
        return diffrax.diffeqsolve(
            term, diffrax.Kvaerno5(), t0, t1, None, y, (k, feed), stepsize_controller=control, max_steps=20000
        ).ys[-1]

    exact = integrated(
        lambda k, f, y, t0, t1: np.asarray(between(*(jnp.asarray(v) for v in (k, f, y, t0, t1))))
    )
    error = float(np.abs(concentration(course(*three_compartments()), TIMES) - exact).max() / exact.max())
    return error < 1e-8, {"difference": error}


def psma() -> Body:
    """The body of the library's radioligand."""
    return load_agent("lu177_psma").body_model()


@check(
    "body.balance",
    "The body model keeps ligand, receptors and activity: flows close, and decay frees no receptor",
    "ligand and receptors to 1e-11, activity to its decay law to 1e-6, no negative amount (1e-9 of the dose)",
    "conservation of mass; A0 exp(-lambda t)",
)
def body_balance(quick: bool) -> Result:
    """An infusion and a second cycle; then one injection without carrier for the law of decay."""
    body = psma()
    run = body.run([Injection(0.0, 7400.0, 150.0, 0.5), Injection(48.0, 3700.0, 80.0)], HOURS)
    given = np.array([0.0, 15.0, 90.0, 150.0, 150.0, 150.0, 230.0, 230.0])
    total = sum(run.ligand(p)[0] for p in PLACES)
    receptors = 0.0
    for organ in body.organs:
        if float(np.max(organ.receptors)) > 0:
            held = run.run.of(*(f"{organ.name} {s}" for s in ("receptors", "bound hot", "bound cold")))
            receptors = largest((receptors, float(np.abs(held / organ.receptors - 1.0).max())))
    full = body.ligand.specific_activity * 100.0
    pure = body.run([Injection(0.0, full, 100.0)], HOURS)
    law = full * np.exp(-body.ligand.decay * HOURS)
    activity = sum(pure.activity(p)[0] for p in PLACES)
    found = {
        "ligand": float(np.abs(total - given).max() / 230.0),
        "receptors": receptors,
        "activity": float(np.abs(activity / law - 1.0).max()),
        "least_over_dose": float(run.run.amounts.min() / 230.0),
    }
    passed = largest((found["ligand"], found["receptors"])) < 1e-11 and found["activity"] < 1e-6
    return passed and found["least_over_dose"] > -1e-9, found


@check(
    "body.moles",
    "Activity is moles without decay times specific activity times exp(-lambda t), in every organ",
    "largest difference relative to the largest activity below 1e-6",
    "the same body with a nuclide that does not decay",
)
def body_moles(quick: bool) -> Result:
    """Binding saturates (150 nmol), so the law would fail if decay freed receptors."""
    body = psma()
    still = Body(body.blood, body.organs, type(body.ligand)(**{**vars(body.ligand), "decay": 0.0}))
    moles = still.run([Injection(0.0, 0.0, 150.0)], HOURS)
    hot = body.ligand.specific_activity * 150.0
    run = body.run([Injection(0.0, hot, 150.0)], HOURS)
    worst = 0.0
    for place in PLACES:
        law = body.ligand.specific_activity * moles.ligand(place) * np.exp(-body.ligand.decay * HOURS)
        worst = largest((worst, float(np.abs(run.activity(place) - law).max() / hot)))
    return worst < 1e-6, {"difference": worst}


@check(
    "body.scipy",
    "The body model is that of an independent stiff integrator",
    "largest difference relative to the dose below 1e-6",
    "scipy Radau at tolerance 1e-10, right-hand side written from the organs, not from the network",
)
def body_scipy(quick: bool) -> Result:
    """Hot and cold ligand; equations per organ as they stand in the documentation."""
    from scipy.integrate import solve_ivp

    body, dose, hot = psma(), 150.0, 7400.0
    start_hot = hot / body.ligand.specific_activity
    times = HOURS[1:6]
    lig, organs = body.ligand, body.organs
    on, off = float(lig.association), float(lig.association) * float(lig.dissociation)
    at = {o.name: i for i, o in enumerate(organs)}
    n = len(organs)

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        s = y.reshape(2, 2 + 4 * n)  # hot and cold: blood, excreted, then plasma, interstitium, bound, inside
        out = np.zeros_like(s)
        parts = s[:, 2:].reshape(2, n, 4)
        change = out[:, 2:].reshape(2, n, 4)
        for i, o in enumerate(organs):
            free = float(o.receptors) - parts[:, i, 2].sum()
            total = float(body.through(o))
            vp, vi, ps, gfr = (float(x) for x in (o.plasma, o.interstitium, o.permeability, o.filtration))
            cp, ci = parts[:, i, 0] / vp, parts[:, i, 1] / vi
            arrive = float(o.flow) * s[:, 0] / float(body.blood)
            filtered = gfr * float(lig.unbound) * cp
            leave = total * cp - filtered
            cross = ps * (float(lig.unbound) * cp - ci)
            bind = on * ci * free - off * parts[:, i, 2]
            inward = float(lig.internalisation) * parts[:, i, 2]
            back = float(o.release) * parts[:, i, 3]
            out[:, 0] -= arrive
            out[:, 1] += filtered
            change[:, i, 0] += arrive - leave - filtered - cross
            change[:, i, 1] += cross - bind + back
            change[:, i, 2] += bind - inward
            change[:, i, 3] += inward - back
            if o.drains == "blood":
                out[:, 0] += leave
            else:
                change[:, at[o.drains], 0] += leave
        out[:, 2:] = change.reshape(2, -1)
        out += np.stack([-lig.decay * s[0], lig.decay * s[0]])
        return np.asarray(out.ravel())

    y0 = np.zeros(2 * (2 + 4 * n))
    y0[0], y0[2 + 4 * n] = start_hot, dose - start_hot
    tolerance = 1e-8 if quick else 1e-10
    exact = solve_ivp(
        slope,
        (0.0, float(times[-1])),
        y0,
        method="Radau",
        t_eval=times,
        rtol=tolerance,
        atol=1e-3 * tolerance,
    ).y.reshape(2, 2 + 4 * n, len(times))
    run = body.run([Injection(0.0, hot, dose)], times)
    worst = 0.0
    for i, o in enumerate(organs):
        mine = run.activity(o.name)[0] / lig.specific_activity
        theirs = exact[0, 2 + 4 * i : 6 + 4 * i].sum(axis=0)
        both = exact[:, 2 + 4 * i : 6 + 4 * i].sum(axis=(0, 1))
        worst = largest((worst, float(np.abs(mine - theirs).max() / start_hot)))
        worst = largest((worst, float(np.abs(run.ligand(o.name)[0] - both).max() / dose)))
    return worst < 1e-6, {"difference": worst}


@check(
    "body.siebinga",
    "The published compartment model, made conservative: every flow gives what it takes",
    "relative residual below 1e-12, salivary activity below its capacity of 40.4 MBq",
    "conservation of activity (a public port takes from blood by the rate of the way back)",
)
def siebinga(quick: bool) -> Result:
    """7400 MBq over 400 h."""
    model = load_agent("lu177_psma_compartments").saturable_model()
    run = model.run([Dose(0.0, 7400.0)], np.linspace(0.0, 400.0, 81))
    parts = [n for n in run.names if not n.endswith("sites")]
    found = {
        "residual": float(np.abs(run.of(*parts) / 7400.0 - 1.0).max()),
        "most_salivary_MBq": float(run.of("salivary").max()),
    }
    return found["residual"] < 1e-12 and 30.0 < found["most_salivary_MBq"] <= 40.4, found


@check(
    "body.dose_factor",
    "A GBq h of lutetium-177 leaves 0.0853 Gy kg",
    "0.0853 to its last digit, half a digit",
    "147.9 keV of electrons a decay, half-life 6.647 d",
)
def dose_factor(quick: bool) -> Result:
    """And the specific activity without carrier."""
    ligand = psma().ligand
    return abs(ligand.dose_factor - 0.0853) <= 5e-5, {
        "Gy_kg_per_GBq_h": ligand.dose_factor,
        "MBq_per_nmol": ligand.specific_activity,
    }


@check(
    "dose_rate.factor",
    "The Lea-Catcheside factor has its closed forms",
    "1e-10 for a constant rate and for two fractions, 1e-6 for a sampled exponential to infinity",
    "Dale 1985: 2 (z - 1 + e^-z)/z^2; lambda/(lambda + mu); (1 + e^{-mu dt})/2",
)
def factor(quick: bool) -> Result:
    """Repair of 0.3648 per hour."""
    mu, lam = 0.3648, 0.02
    constant = 0.0
    for hours in (0.2, 5.0, 50.0):
        z = mu * hours
        exact = 2.0 / z**2 * (z + np.expm1(-z))
        constant = largest(
            (constant, abs(float(dose_effect([0.0, hours], [2.0, 2.0], mu).factor) / exact - 1.0))
        )
    t = np.linspace(0.0, 300.0, 6001)
    decaying = float(dose_effect(t, 3.0 * np.exp(-lam * t), mu, tail=lam).factor)
    two = float(dose_effect([0.0, 9.0], [0.0, 0.0], mu, fractions=[(1.0, 2.0), (7.0, 2.0)]).factor)
    found = {
        "constant": constant,
        "exponential": abs(decaying / (lam / (lam + mu)) - 1.0),
        "fractions": abs(two / ((1.0 + np.exp(-6.0 * mu)) / 2.0) - 1.0),
    }
    return largest((found["constant"], found["fractions"])) < 1e-10 and found["exponential"] < 1e-6, dict(
        found
    )
