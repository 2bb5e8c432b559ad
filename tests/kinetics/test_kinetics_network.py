"""Reaction networks: closed forms, invariants, doses, members, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import lambertw

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.kinetics.network import Network, Reaction, simulate_network
from vvuq_twin.kinetics.plasma import Dose, PlasmaModel, concentration, course, rate_matrix
from vvuq_twin.kinetics.saturable import CappedFlow, SaturableFlow, SaturableModel

TIMES = np.linspace(0.0, 20.0, 41)


def test_saturable_elimination_is_the_lambert_function():
    """Schnell & Mendoza 1997: c = Km W((c0/Km) exp((c0 - Vmax t)/Km))."""
    vmax, half, dose = 5.0, 3.0, 40.0
    net = Network(("central",), (Reaction(("central",), ("out",), vmax, half=half),))
    exact = half * lambertw(dose / half * np.exp((dose - vmax * TIMES) / half)).real
    error = []
    for rtol in (1e-5, 1e-9):
        run = simulate_network(net, [Dose(0.0, dose)], TIMES, rtol=rtol)
        error.append(np.abs(run.of("central")[0] - exact).max() / dose)
        np.testing.assert_allclose(run.of("central", "out"), dose, rtol=1e-12)
    assert error[0] < 1e-7 and error[1] < 1e-10
    area = (dose - exact) * (half + (dose + exact) / 2) / vmax
    np.testing.assert_allclose(run.integral_of("central")[0], area, atol=1e-7)


def test_first_order_network_is_the_matrix_exponential():
    names = ("gut", "central", "deep")
    flows = {
        ("gut", "central"): 1.2,
        ("central", "deep"): 0.5,
        ("deep", "central"): 0.2,
        ("central", "out"): 0.3,
    }
    linear = PlasmaModel(names, rate_matrix(names, flows), 10.0, fraction={"gut": 0.7})
    doses = [Dose(0.0, 80.0, "gut"), Dose(2.5, 30.0, duration=1.5), Dose(9.0, 10.0)]
    exact = concentration(course(linear, doses), TIMES)
    got = SaturableModel(linear, ()).concentration(doses, TIMES)[0]
    np.testing.assert_allclose(got, exact, atol=1e-9 * exact.max())


def test_binding_against_scipy_with_stiff_rates():
    """Ligand, receptor, complex and internalised; rates a thousandfold apart."""
    net = Network(
        ("l", "r", "b", "i"),
        (
            Reaction(("l", "r"), ("b",), 300.0),
            Reaction(("b",), ("l", "r"), 20.0),
            Reaction(("b",), ("i", "r"), 0.06),
            Reaction(("i",), ("l",), 0.008),
            Reaction(("l",), ("out",), 0.3),
        ),
    )
    run = simulate_network(net, [Dose(0.0, 5.0, "l")], TIMES, {"r": 2.0}, rtol=1e-9, atol=1e-12)

    def slope(t, y):
        l, r, b, i = y
        bind = 300.0 * l * r - 20.0 * b
        return [-bind + 0.008 * i - 0.3 * l, -bind + 0.06 * b, bind - 0.06 * b, 0.06 * b - 0.008 * i]

    exact = solve_ivp(
        slope, (0, 20), [5.0, 2.0, 0, 0], method="Radau", t_eval=TIMES, rtol=1e-10, atol=1e-13
    ).y.T
    np.testing.assert_allclose(run.amounts[0, :, :4], exact, atol=2e-8)
    np.testing.assert_allclose(run.of("l", "b", "i", "out"), 5.0, rtol=1e-12)
    np.testing.assert_allclose(run.of("r", "b"), 2.0, rtol=1e-12)
    assert run.amounts.min() > -1e-11


def test_rivals_share_a_saturable_site():
    """Two halves of one drug that compete are one drug of their sum."""
    one = Network(("a",), (Reaction(("a",), ("out",), 4.0, half=2.0),))
    pool = ("a", "b")
    two = Network(
        ("a", "b"),
        (
            Reaction(("a",), ("out",), 4.0, half=2.0, pool=pool),
            Reaction(("b",), ("out",), 4.0, half=2.0, pool=pool),
        ),
    )
    whole = simulate_network(one, [Dose(0.0, 10.0, "a")], TIMES).of("a")
    both = simulate_network(two, [Dose(0.0, 4.0, "a"), Dose(0.0, 6.0, "b")], TIMES)
    np.testing.assert_allclose(both.of("a", "b"), whole, atol=1e-7)
    np.testing.assert_allclose(both.of("a")[0, :8] / both.of("a", "b")[0, :8], 0.4, rtol=1e-7)


def test_saturable_model_far_below_and_far_above_saturation():
    linear = PlasmaModel(("central",), rate_matrix(("central",), {("central", "out"): 0.0}), 5.0)
    model = SaturableModel(linear, (SaturableFlow("central", "out", 6.0, 4.0),))
    low = model.concentration([Dose(0.0, 1e-4)], TIMES)[0]
    np.testing.assert_allclose(low[:9], 2e-5 * np.exp(-6.0 / (4.0 * 5.0) * TIMES[:9]), rtol=1e-4)
    high = model.concentration([Dose(0.0, 1e6)], TIMES)[0]
    np.testing.assert_allclose(high[0] - high, 6.0 * TIMES / 5.0, atol=1e-3)


def test_a_course_of_a_saturable_model_follows_it():
    linear = PlasmaModel(("central", "deep"), rate_matrix(("central", "deep"), {("central", "deep"): 0.5, ("deep", "central"): 0.2}), 10.0, unbound=0.1)  # fmt: skip
    model = SaturableModel(linear, (SaturableFlow("central", "out", 30.0, 0.6),))
    doses = [Dose(0.0, 200.0, duration=3.0), Dose(24.0, 100.0)]
    plan = model.course(doses, 48.0)
    at = np.sort(np.random.default_rng(1).uniform(0, 48, 200))
    exact = model.concentration(doses, at)[0]
    np.testing.assert_allclose(concentration(plan, at), exact, atol=4e-4 * exact.max())
    assert plan.unbound == 0.1
    with pytest.raises(BadInput, match="not after the last dose"):
        model.course(doses, 24.0)


def test_a_capped_compartment_saturates_and_gives_its_sites_back():
    names = ("central", "gland")
    linear = PlasmaModel(
        names, rate_matrix(names, {("central", "out"): 0.1, ("gland", "central"): 0.05}), 10.0
    )
    model = SaturableModel(linear, (), (CappedFlow("central", "gland", 0.5, 40.0),))
    run = model.run([Dose(0.0, 1000.0)], np.linspace(0, 200, 101))
    gland = run.of("gland")[0]
    assert 38.0 < gland.max() <= 40.0
    np.testing.assert_allclose(run.of("central", "gland", "out"), 1000.0, rtol=1e-12)
    np.testing.assert_allclose(run.of("gland", "gland sites"), 40.0, rtol=1e-12)


def test_members_side_by_side_are_each_alone_and_a_bad_one_is_reported():
    rate = np.array([0.5, 1.0, 2.0])
    net = Network(("a", "r"), (Reaction(("a",), ("out",), rate), Reaction(("a", "r"), ("r",), 0.1)))
    together = simulate_network(net, [Dose(0.0, 3.0, "a")], TIMES, {"r": np.array([1.0, -1.0, 2.0])})
    assert together.status.tolist() == [0, 3, 0]
    assert np.isfinite(together.amounts).all()
    alone = simulate_network(
        Network(("a", "r"), (Reaction(("a",), ("out",), 2.0), Reaction(("a", "r"), ("r",), 0.1))),
        [Dose(0.0, 3.0, "a")], TIMES, {"r": 2.0},
    )  # fmt: skip
    np.testing.assert_allclose(together.amounts[2], alone.amounts[0], rtol=1e-12)


def test_a_member_that_overflows_is_reported_and_its_values_stay_finite():
    grows = Network(("a",), (Reaction(("a", "a"), ("a", "a", "a"), 1e200),))
    run = simulate_network(grows, [Dose(0.0, 1e300, "a")], np.array([0.0, 1.0]))
    assert run.status[0] != 0
    assert np.isfinite(run.amounts).all() and np.isfinite(run.integrals).all()


def test_bad_input():
    with pytest.raises(BadInput, match="'cental' is not known; did you mean 'central'"):
        Network(("central",), (Reaction(("cental",), ("out",), 1.0),))
    with pytest.raises(BadInput, match="negative or not finite"):
        Network(("central",), (Reaction(("central",), ("out",), -1.0),))
    with pytest.raises(BadInput, match="half saturation that is not positive"):
        Network(("central",), (Reaction(("central",), ("out",), 1.0, half=0.0),))
    net = Network(("central",), (Reaction(("central",), ("out",), 1.0),))
    with pytest.raises(BadInput, match="negative"):
        simulate_network(net, [Dose(0.0, -1.0)], TIMES)
    with pytest.raises(BadInput, match="go backwards"):
        simulate_network(net, [Dose(0.0, 1.0)], np.array([1.0, 0.0]))
