"""Reduced delivery against the full order converged in time, and that against the package's own run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from delivery_small import HOW, small_case, small_judged, small_model

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.kinetics.plasma import Dose
from vvuq_twin.physics.agents import load_agent
from vvuq_twin.reduction import local as cells
from vvuq_twin.reduction.backend import jax, jnp
from vvuq_twin.reduction.delivery import BAD_PARAMETER
from vvuq_twin.reduction.delivery_build import assemble_delivery, build_delivery
from vvuq_twin.reduction.delivery_numbers import delivery_space
from vvuq_twin.reduction.delivery_reference import Reference, case_grid, reference
from vvuq_twin.reduction.delivery_validation import (
    error_parts,
    relative_errors,
    truth,
    wall_errors,
)
from vvuq_twin.reduction.propagate import NOT_FINITE


def test_the_converged_full_order_is_the_limit_of_the_splitting() -> None:
    case = replace(small_case(), times=np.array([0.25, 1.0]))
    theta = case.space.sample(1, 4, "limit")
    exact = truth(case, theta)
    errors = []
    for dt, change in ((1 / 60, 5e-3), (1 / 240, 3e-4)):
        split = case.full(theta, dt, change, cells=case.site.tumour).sound().amount
        errors.append(relative_errors(split, exact).max())
    assert errors[1] < 6e-4 and errors[1] < 0.5 * errors[0]


def test_unseen_members_agree_with_the_full_order() -> None:
    judged = small_judged()
    assert (judged.status == 0).all()
    assert judged.worst(0).max() < 1e-3 and judged.worst(2).max() < 1e-3
    estimate = judged.estimated(judged.scale())
    assert (estimate >= judged.error.max(axis=(1, 2))).all() and (estimate < 0.05).all()


def test_the_parts_of_the_error() -> None:
    case, (model, trained) = small_case(), small_model()
    parts = error_parts(model, trained, case, case.space.sample(2, 6, "parts"), HOW)
    assert parts["basis"].max() < 2e-5
    assert parts["time"].max() < 3e-4
    assert parts["hyper_reduction"].max() < 1e-3 and parts["projection"].max() < 1e-3
    assert parts["gain"].max() < 1e-5 and parts["back"].max() < 1e-5


def test_walls_that_let_the_drug_through_by_drag_alone() -> None:
    """Permeabilities 100 times smaller: the exponential of the Peclet number is far from one."""
    case, (model, trained) = small_case(), small_model()
    theta = case.space.sample(2, 6, "drag")
    theta[:, [case.space.index("P_drug"), case.space.index("P_bound")]] *= 1e-2
    every = assemble_delivery(case, model.bases, np.arange(case.site.faces.n), trained, HOW, model.limit)
    errors = wall_errors(every, case, theta)
    assert errors["gain"].max() < 1e-3 and errors["back"].max() < 1e-3


def test_kinetics_have_the_derivative_they_say() -> None:
    rng = np.random.default_rng(0)
    k = 5
    local = cells.Local(
        (rng.random((1, k)), rng.random((1, k))), (rng.random((1, k)), rng.random((1, k))),
        rng.random((1, 2, 4, 4)), rng.integers(0, 2, k),
        cells.Links(tuple(rng.random((2, 1, k))), tuple(1 + rng.random((2, 1, k))), tuple(rng.random((2, 1, k)))),
    )  # fmt: skip
    pairs = ((0, 2, False), (1, 3, True))
    c, plasma = rng.random((4, 1, k)), rng.random((1, 2))
    found = np.array(cells.jacobian(local, pairs, c))
    for j in range(4):
        move = np.zeros_like(c)
        move[j] = 1e-6
        up, down = (np.array(cells.rates(local, pairs, c + s * move, plasma)) for s in (1, -1))
        np.testing.assert_allclose(found[:, j], (up - down) / 2e-6, rtol=1e-6, atol=1e-8)


def test_gradients_are_the_finite_differences() -> None:
    case, (model, _) = small_case(), small_model()
    theta = jnp.asarray(case.space.sample(1, 13, "gradient")[0])

    @jax.jit
    def taken_up(z: jax.Array) -> jax.Array:
        return model.run(case, z[None, :], jnp)[0][0, -1, 2].mean()

    gradient = np.asarray(jax.grad(taken_up)(theta))
    for i in range(case.space.size):
        h = 2e-4 * float(theta[i])
        at = [float(taken_up(theta.at[i].add(k * h))) for k in (-2, -1, 1, 2)]
        slope = (8.0 * (at[2] - at[1]) - (at[3] - at[0])) / (12.0 * h)
        assert gradient[i] == pytest.approx(slope, rel=1e-6)


def test_a_bad_member_has_a_code_and_the_others_go_on() -> None:
    case, (model, _) = small_case(), small_model()
    theta = case.space.sample(4, 14, "bad")
    good, _ = model.run(case, theta)
    theta[1, 0], theta[2, case.space.index("Lp_tumour")] = np.nan, -1.0
    amount, status = model.run(case, theta)
    assert status.tolist() == [0, NOT_FINITE, BAD_PARAMETER, 0]
    assert np.isfinite(amount).all()
    np.testing.assert_array_equal(amount[[0, 3]], good[[0, 3]])


def test_a_bad_member_of_the_full_orders_has_a_code() -> None:
    case = replace(small_case(), times=np.array([0.05]))
    theta = case.space.sample(3, 15, "bad")
    theta[0, 0], theta[1, case.space.index("P_drug")] = np.nan, -1.0
    exact = reference(case, theta, case_grid(case, 1e-3, 0.2, 1.0))
    split = case.full(theta, 0.01)
    assert exact.status.tolist() == split.status.tolist() == [2, 2, 0]
    assert not exact.amount[:2].any() and np.isfinite(exact.amount).all()
    # the splitting is the coarse one of the two so soon after the start
    np.testing.assert_allclose(exact.amount[2], split.amount[2], rtol=0.05)


def test_members_do_not_depend_on_how_many_run_together() -> None:
    case, (model, _) = small_case(), small_model()
    theta = case.space.sample(70, 16, "batches")
    many, _ = model.run(case, theta)
    few, _ = model.run(case, theta[65:67])
    np.testing.assert_array_equal(many[65:67], few)


def test_another_case_is_refused() -> None:
    case, (model, _) = small_case(), small_model()
    theta = case.space.sample(1, 1, "other")
    with pytest.raises(BadInput, match="other output times"):
        model.run(replace(case, times=np.array([1.0, 2.0])), theta)
    with pytest.raises(BadInput, match="other doses"):
        model.run(replace(case, doses=(Dose(0.0, 45.0, duration=0.25),)), theta)
    thin = replace(case.site, phi=0.9 * case.site.phi)
    with pytest.raises(BadInput, match="another site"):
        model.run(replace(case, site=thin), theta)


def test_names_that_are_not_known() -> None:
    case = small_case()
    with pytest.raises(BadInput, match="no parameter 'K_tumor'"):
        delivery_space(case.site, case.agent, {"K_tumor": 0.3})
    both = delivery_space(case.site, case.agent, {"P_drug": 0.3, "P_drug_tumour": None})
    with pytest.raises(BadInput, match="for all tissues and for one"):
        replace(case, space=both)
    with pytest.raises(BadInput, match="no permeability"):
        replace(case, agent=load_agent("temozolomide"))


def test_training_runs_that_failed_are_left_out_or_stop_it() -> None:
    case = small_case()
    theta = case.space.sample(3, 2, "lost")
    lost = Reference(np.zeros((3, 5, 3, 0)), [], np.array([1, 1, 0]))
    with pytest.raises(Exception, match="2 of 3 training runs failed"):
        build_delivery(case, theta, lost, HOW)
