"""Kill by dose rates and by transport: exact in time, order in the transport step, one way and two ways."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.kinetics.plasma import Dose, PlasmaModel, course, rate_matrix
from vvuq_twin.physics.drug import Drug
from vvuq_twin.physics.effect import Hill, Linear
from vvuq_twin.physics.faces import assemble
from vvuq_twin.physics.growth import GrowthParameters, advance
from vvuq_twin.physics.response import coupled_growth, dose_rate_kill, superposed_kill
from vvuq_twin.physics.timeline import timeline
from vvuq_twin.physics.tissue import Tissue
from vvuq_twin.physics.transport import transport


@pytest.fixture(scope="module")
def faces():
    grid = Grid((5, 4, 9), (2.0, 2.0, 2.0))
    return assemble(
        grid, np.random.default_rng(1).random(grid.shape) < 0.9, np.ones(grid.shape, int), {"white": 1}
    )


@pytest.fixture(scope="module")
def tissue(faces):
    rng = np.random.default_rng(2)
    return Tissue(faces, 0.3 + rng.random(faces.n), np.full(faces.n, 0.3))


def plasma(doses):
    names = ("central",)
    return course(PlasmaModel(names, rate_matrix(names, {("central", "out"): 0.4}), 10.0), doses)


DOSES = [Dose(24.0, 5.0), Dose(30.0, 3.0, duration=2.0), Dose(60.5, 4.0)]


def test_a_radionuclide_kills_by_the_linear_quadratic_law_with_g(faces):
    mu, lam, alpha, beta = 0.3648, 0.02, 0.1, 0.02
    hours = np.linspace(12.0, 60.0, 49)
    w = np.linspace(0.5, 1.5, faces.n)
    for dt in (1.0, 0.3):
        line = timeline(0.0, [30.0], dt_max=dt)
        kill = dose_rate_kill(line, hours, 0.5 * np.exp(-lam * (hours - 12)), alpha, beta, mu, w, tail=lam)
        states, _ = advance(faces, np.full(faces.n, 0.4), GrowthParameters.of([0.0], 0.0), line, kill=kill)
        dose = 0.5 / lam
        left = np.exp(-lam * (30 * 24 - 12))
        gdd = lam / (lam + mu) * dose**2
        exact = alpha * w * dose * (1 - left) + beta * w**2 * gdd
        np.testing.assert_allclose(-np.log(states[0, 0] / 0.4), exact, rtol=2e-4)


@pytest.mark.parametrize("dt", [0.5, 2.0])
def test_the_kill_is_the_exposure_whatever_the_growth_step(faces, tissue, dt):
    plan, drug = plasma(DOSES), Drug(np.array([1.0]), np.array([[-0.2]]))
    line = timeline(0.0, [2.0, 4.0], dt_max=dt)
    got = coupled_growth(
        faces, np.full(faces.n, 0.4), GrowthParameters.of([0.0], 0.0), line, drug, plan, Linear(0.05), lambda n: tissue,
        dt_hours=0.1,
    )  # fmt: skip
    exact = transport(tissue, drug, plan, np.array([48.0, 96.0]), 0.1).exposure[:, 0]
    np.testing.assert_allclose(got.kill, 0.05 * exact, rtol=2e-4)
    np.testing.assert_allclose(-np.log(got.states / 0.4), got.kill, rtol=1e-12)
    assert np.abs(got.balance.residual).max() < 1e-12
    assert got.status == 0


def test_hill_kill_is_of_second_order_in_the_transport_step(faces):
    """One voxel against scipy."""
    one = assemble(
        Grid((1, 1, 1), (2.0, 2.0, 2.0)), np.ones((1, 1, 1), bool), np.ones((1, 1, 1), int), {"white": 1}
    )
    plan, law = plasma([Dose(0.0, 5.0)]), Hill(0.05, 0.03, 2.0)
    place = Tissue(one, np.array([0.8]), np.array([0.3]))
    line = timeline(0.0, [0.0, 1.0], dt_max=1.0)

    def slope(t, y):
        return [-0.4 * y[0], 0.8 * (y[0] / 10.0 - y[1] / 0.3), float(law.rate(np.array([y[1]]))[0])]

    exact = solve_ivp(slope, (0, 24), [5.0, 0.0, 0.0], rtol=1e-10, atol=1e-13).y[2, -1]
    error = []
    for dt in (0.4, 0.2, 0.1):
        got = coupled_growth(
            one, np.array([0.4]), GrowthParameters.of([0.0], 0.0), line, Drug(np.array([0.0])), plan, law,
            lambda n: place, dt_hours=dt,
        )  # fmt: skip
        error.append(abs(got.kill[1, 0] / exact - 1))
    assert error[2] < 2e-3
    assert error[0] / error[1] == pytest.approx(4.0, rel=0.15)


def test_two_ways_against_an_independent_integrator():
    """Cells take the drug up in proportion to their number and die of it: at least first order in the growth step."""
    one = assemble(
        Grid((1, 1, 1), (2.0, 2.0, 2.0)), np.ones((1, 1, 1), bool), np.ones((1, 1, 1), int), {"white": 1}
    )
    plan, k, slope = plasma([Dose(0.0, 5.0), Dose(48.0, 5.0)]), 0.1, 0.5

    def tissue_of(n):
        return Tissue(one, 0.2 + 2.0 * n, np.array([0.3]))

    def rate(t, y):
        ktrans = 0.2 + 2.0 * y[2]
        kill = slope * y[1]
        grow = k / 24.0 * y[2] * (1 - y[2]) - kill * y[2]
        return [-0.4 * y[0], ktrans * (y[0] / 10.0 - y[1] / 0.3), grow]

    y = [5.0, 0.0, 0.5]
    y = solve_ivp(rate, (0, 48), y, rtol=1e-10, atol=1e-13).y[:, -1] + np.array([5.0, 0, 0])
    exact = solve_ivp(rate, (48, 96), y, rtol=1e-10, atol=1e-13).y[2, -1]
    error = []
    for dt in (0.1, 0.05, 0.025):
        got = coupled_growth(
            one, np.array([0.5]), GrowthParameters.of([0.0], k), timeline(0.0, [4.0], dt_max=dt), Drug(np.array([0.0])),
            plan, Linear(slope), tissue_of, dt_hours=0.05,
        )  # fmt: skip
        error.append(abs(got.states[0, 0] / exact - 1))
    assert error[2] < 2e-4
    assert error[0] / error[1] > 1.8 and error[1] / error[2] > 1.8


def test_superposition_is_the_two_way_run_where_the_tumour_hardly_changes(faces, tissue):
    drug, slope, start = Drug(np.array([1.0]), np.array([[-0.2]])), 0.02, np.full(faces.n, 0.4)
    unit = plasma([Dose(0.0, 1.0)])
    hours = np.linspace(0.0, 36.0, 145)
    exposure = transport(tissue, drug, unit, hours, 0.1).exposure[:, 0]
    doses = [(1.0, 5.0), (2.0, 3.0), (4.3, 4.0)]
    plan = plasma([Dose(24.0 * d, a) for d, a in doses])
    p = GrowthParameters.of([0.1], 0.05)
    line = timeline(0.0, [8.0], dt_max=0.5)
    two = coupled_growth(faces, start, p, line, drug, plan, Linear(slope), lambda n: tissue, dt_hours=0.1)
    one, _ = advance(faces, start, p, line, kill=superposed_kill(line, doses, hours, exposure, slope))
    np.testing.assert_allclose(one[0, 0], two.states[0], rtol=2e-3)


def test_a_fraction_falls_after_the_visit_on_its_day(faces, tissue):
    line = timeline(0.0, [0.0, 2.0, 3.0], fractions=[(2.0, 2.0)], dt_max=1.0)
    still = GrowthParameters.of([0.0], 0.0, radiosensitivity=0.1)
    got = coupled_growth(
        faces,
        np.full(faces.n, 0.4),
        still,
        line,
        Drug(np.array([0.0])),
        plasma([]),
        Linear(0.1),
        lambda n: tissue,
    )
    np.testing.assert_allclose(got.states[1], 0.4, rtol=1e-14)
    np.testing.assert_allclose(got.states[2], 0.4 * np.exp(-0.1 * 2 * 1.2), rtol=1e-13)


def test_bad_input(faces, tissue):
    line, p = timeline(0.0, [2.0]), GrowthParameters.of([0.1], 0.1)
    start, drug = np.full(faces.n, 0.4), Drug(np.array([0.0]))
    with pytest.raises(BadInput, match="the dose at -5 h is before the first time"):
        coupled_growth(faces, start, p, line, drug, plasma([Dose(-5.0, 1.0)]), Linear(0.1), lambda n: tissue)
    with pytest.raises(BadInput, match="the transport step"):
        coupled_growth(faces, start, p, line, drug, plasma([]), Linear(0.1), lambda n: tissue, dt_hours=0.0)
    with pytest.raises(BadInput, match="the dose on day -1"):
        superposed_kill(line, [(-1.0, 1.0)], np.array([0.0, 1.0]), np.array([[0.0], [1.0]]), 0.1)
    with pytest.raises(BadInput, match="does not start from zero"):
        superposed_kill(line, [(1.0, 1.0)], np.array([0.0, 1.0]), np.array([[0.5], [1.0]]), 0.1)
