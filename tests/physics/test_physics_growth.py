"""Members through a timeline: order of events, failures, batches, maps."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.physics.faces import assemble
from vvuq_twin.physics.growth import GrowthParameters, Heterogeneity, advance
from vvuq_twin.physics.rowmath import exp_row, log_row
from vvuq_twin.physics.timeline import timeline


@pytest.fixture(scope="module")
def faces():
    rng = np.random.default_rng(1)
    grid = Grid((8, 7, 18), (2.0, 2.0, 2.0))
    return assemble(
        grid, rng.random(grid.shape) < 0.85, rng.integers(1, 3, grid.shape), {"white": 1, "grey": 2}
    )


@pytest.fixture(scope="module")
def start(faces):
    return 0.5 * np.random.default_rng(2).random((3, faces.n))


def test_a_scan_on_the_day_of_treatment_sees_the_state_before_it(faces, start):
    still = GrowthParameters.of([0.0, 0.0], 0.0, radiosensitivity=0.1, alpha_beta=10.0)
    plan = timeline(0.0, [0.0, 5.0, 6.0], fractions=[(0.0, 2.0), (5.0, 2.0)], dt_max=1.0)
    states, status = advance(faces, start[0], still, plan)
    s = np.exp(-0.1 * 2.0 * 1.2)
    assert status.tolist() == [0]
    np.testing.assert_array_equal(states[0, 0], start[0])
    np.testing.assert_allclose(states[0, 1], s * start[0], rtol=1e-14)
    np.testing.assert_allclose(states[0, 2], s * s * start[0], rtol=1e-14)


def test_a_failed_member_is_reported_and_the_rest_go_on(faces, start):
    good = {"diffusivity": np.full((3, 2), 0.1), "rate": np.full(3, 0.05)}
    plan = timeline(0.0, [0.0, 4.0, 8.0], dt_max=0.5)
    alone, _ = advance(faces, start, GrowthParameters.of(**good), plan)
    for name, value in (("rate", np.nan), ("diffusivity", -0.1), ("diffusivity", np.inf)):
        bad = {k: v.copy() for k, v in good.items()}
        bad[name][1] = value
        states, status = advance(faces, start, GrowthParameters.of(**bad), plan)
        assert status.tolist() == [0, 2, 0]
        assert np.isfinite(states).all()
        np.testing.assert_array_equal(states[[0, 2]], alone[[0, 2]])


def test_a_member_that_overflows_holds_its_last_finite_state(faces, start):
    rate = np.full((3, timeline(0.0, [0.0, 4.0, 8.0], dt_max=0.5).steps), 0.05)
    plan = timeline(0.0, [0.0, 4.0, 8.0], dt_max=0.5)
    rate[1, plan.t >= 4.0] = 1e5  # exp overflows
    states, status = advance(faces, start, GrowthParameters.of(np.full((3, 2), 0.1), rate), plan)
    assert status.tolist() == [0, 1, 0]
    assert np.isfinite(states).all()
    np.testing.assert_array_equal(states[1, 2], states[1, 1])


def test_members_do_not_depend_on_their_batch(faces, start):
    d, k = np.array([[0.1, 0.02], [0.3, 0.1], [2.0, 1.0]]), np.array([0.02, 0.05, 0.1])
    plan = timeline(0.0, [3.0, 9.0], [(1.0, 75.0)], [(2.0, 2.0)], dt_max=1.0)
    together, _ = advance(
        faces, start, GrowthParameters.of(d, k, 0.001, 9.0, 0.5, 0.05), plan, exposure=start[1]
    )
    for i in range(3):
        one, _ = advance(
            faces, start[i], GrowthParameters.of(d[i], k[i], 0.001, 9.0, 0.5, 0.05), plan, exposure=start[1]
        )
        np.testing.assert_array_equal(one[0], together[i])


def test_a_rate_per_step(faces, start):
    plan = timeline(0.0, [10.0], dt_max=0.5, breaks=[5.0])
    rate = np.array([0.2, 0.0])[plan.rate(np.array([0.0, 5.0, 10.0]))]
    states, _ = advance(faces, start[0], GrowthParameters.of([0.0, 0.0], rate[None]), plan)
    e = np.exp(1.0)
    np.testing.assert_allclose(states[0, 0], start[0] * e / (1 + start[0] * (e - 1)), rtol=1e-13)


def test_maps_of_ones_change_nothing(faces, start):
    ones = np.ones(faces.n)
    plan = timeline(0.0, [6.0], [(1.0, 75.0)], [(2.0, 2.0)], dt_max=0.5)
    p = GrowthParameters.of([0.2, 0.05], 0.05, 0.001, 9.0, 0.5, 0.05)
    plain, _ = advance(faces, start, GrowthParameters.of(*[np.repeat(np.atleast_2d(v), 3, 0) if i == 0 else np.repeat(v, 3)
                                                          for i, v in enumerate(vars(p).values())]), plan)  # fmt: skip
    mapped, _ = advance(faces, start[:1], p, plan, ones, Heterogeneity(ones, ones))
    np.testing.assert_allclose(mapped[0], plain[0], rtol=1e-13)


@pytest.mark.parametrize("longest", [0.5, 4.0])
def test_what_is_negligible_need_not_be_computed(longest):
    grid = Grid((24, 20, 40), (2.0, 2.0, 2.0))
    rng = np.random.default_rng(5)
    # closed cells cut the box's rows into pieces
    faces = assemble(grid, rng.random(grid.shape) < 0.95, np.ones(grid.shape, int), {"white": 1})
    away = np.linalg.norm(grid.points(faces.mask) - [16.0, 20.0, 24.0], axis=1)
    start = np.where(away < 7.0, 0.5, 0.0)
    parameters = GrowthParameters.of([[0.3]], 0.08, drug_kill=0.3, drug_decay=0.5, radiosensitivity=0.05)
    line = timeline(0.0, [0.0, 20.0, 60.0], [(25.0, 1.0)], [(5.0, 2.0)], longest)
    whole, _ = advance(faces, start, parameters, line)
    gaps = []
    for negligible in (1e-4, 1e-6, 1e-8):
        part, status = advance(faces, start, parameters, line, negligible=negligible)
        assert (status == 0).all()
        gaps.append(np.abs(part - whole).max() / negligible)
        # far away nothing was computed
        assert (part[0, 1] == 0.0).sum() > (whole[0, 1] == 0.0).sum()
    assert max(gaps) < 30.0


def test_every_step_ends_with_the_last_visit(faces, start):
    plan = timeline(0.0, [6.0], fractions=[(2.0, 2.0)], dt_max=0.5)
    p = GrowthParameters.of([0.2, 0.05], 0.05, radiosensitivity=0.1)
    visits, _ = advance(faces, start[0], p, plan)
    steps, _ = advance(faces, start[0], p, plan, every_step=True)
    assert steps.shape == (1, plan.used, faces.n)
    np.testing.assert_array_equal(steps[0, -1], visits[0, -1])


def test_wrong_shapes_are_bad_input(faces, start):
    plan = timeline(0.0, [1.0])
    p = GrowthParameters.of([0.1, 0.1], 0.1)
    with pytest.raises(BadInput, match="initial state has shape"):
        advance(faces, start[0, :-1], p, plan)
    with pytest.raises(BadInput, match="a map has shape"):
        advance(faces, start[0], p, plan, exposure=np.ones(3))
    with pytest.raises(BadInput, match="one diffusivity per tissue"):
        advance(faces, start[0], GrowthParameters.of([0.1], 0.1), plan)


def test_row_functions_are_those_of_the_library():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-680, 680, 4000), rng.uniform(-1, 1, 4000), [0.0, 1.0]])
    y = x.copy()
    exp_row(y, y.size, np.empty_like(y))
    np.testing.assert_allclose(y, np.exp(x), rtol=4e-16)
    x = np.concatenate([10.0 ** rng.uniform(-300, 300, 4000), rng.uniform(0.5, 2, 4000), [1.0]])
    y = x.copy()
    log_row(y, y.size, np.empty_like(y))
    np.testing.assert_allclose(y, np.log(x), rtol=9e-16, atol=1e-16)
