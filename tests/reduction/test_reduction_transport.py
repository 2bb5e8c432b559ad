"""Reduced transport against the full order converged in time, and closed forms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import expm as reference
from transport_small import STEP, small_reduced, small_transport

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.reduction.backend import jax, jnp
from vvuq_twin.reduction.expm import expm, squarings
from vvuq_twin.reduction.propagate import NOT_FINITE
from vvuq_twin.reduction.store import load, save
from vvuq_twin.reduction.training import training_parameters
from vvuq_twin.reduction.transport import (
    ReducedTransport,
    transport_fingerprint,
    validate_transport,
)
from vvuq_twin.reduction.transport_case import TransportCase


@pytest.fixture(scope="module")
def case() -> TransportCase:
    return small_transport()


@pytest.fixture(scope="module")
def reduced() -> ReducedTransport:
    return small_reduced()


def test_many_exponentials_against_scipy() -> None:
    rng = np.random.default_rng(0)
    m = rng.standard_normal((4, 9, 9)) * 3 - 4 * np.eye(9)
    norm = np.abs(m).sum(axis=1).max()
    got = np.asarray(expm(jnp.asarray(m), squarings(float(norm))))
    for a, b in zip(got, m):
        np.testing.assert_allclose(a, reference(b), rtol=1e-11, atol=1e-12)
    assert squarings(0.0) == 0 and squarings(1.0) == 1


def test_unseen_members_agree_with_the_full_order(case: TransportCase, reduced: ReducedTransport) -> None:
    theta = case.space.sample(4, 9, "transport")
    region = case.tissue.ktrans > 1.0
    errors = validate_transport(reduced, case, theta, STEP, region)
    assert errors["amount_worst"] < 2e-3
    assert errors["exposure_worst"] < 1e-3


def test_it_comes_back_from_a_store_and_a_stale_one_is_refused(
    case: TransportCase, reduced: ReducedTransport, tmp_path: Path
) -> None:
    design, theta = training_parameters(case.space, 10, 3), case.space.sample(3, 1, "store")
    path = save(tmp_path / "transport.zarr.zip", reduced)
    again, beside = load(path, transport_fingerprint(case, design, STEP, 1e-6, 24), ReducedTransport)
    for mine, theirs in zip(again.run(case, theta), reduced.run(case, theta)):
        assert np.array_equal(mine, theirs)
    assert beside is None
    for mark in (
        transport_fingerprint(case, design, 2 * STEP, 1e-6, 24),
        transport_fingerprint(replace(case, doses=case.doses[:1]), design, STEP, 1e-6, 24),
    ):
        with pytest.raises(BadInput, match="another patient, prior or setting"):
            load(path, mark, ReducedTransport)


def test_what_is_left_is_the_full_orders_step(case: TransportCase, reduced: ReducedTransport) -> None:
    theta = case.space.sample(2, 10, "steps")
    region = case.tissue.ktrans > 1.0
    coarse = validate_transport(reduced, case, theta, 0.25, region)["amount_worst"]
    fine = validate_transport(reduced, case, theta, 0.125, region)["amount_worst"]
    assert coarse > 2.5 * fine


def test_exposure_over_all_time_is_the_limit_of_the_running_one(
    case: TransportCase, reduced: ReducedTransport
) -> None:
    theta = case.space.sample(3, 11, "limit")
    _, exposure, status = reduced.run(replace(case, times=np.array([12.0, 100.0, 400.0])), theta)
    assert (status == 0).all()
    total = reduced.total_exposure(case, theta)
    np.testing.assert_allclose(exposure[:, -1], total, rtol=1e-6, atol=1e-6 * np.abs(total).max())


def test_the_reduced_system_is_linear_in_the_dose(case: TransportCase, reduced: ReducedTransport) -> None:
    theta = case.space.sample(3, 12, "dose")
    twice = replace(case, doses=tuple(replace(d, amount=2 * d.amount) for d in case.doses))
    one, two = reduced.run(case, theta)[0], reduced.run(twice, theta)[0]
    np.testing.assert_allclose(two, 2 * one, rtol=1e-12, atol=1e-12 * np.abs(one).max())


def test_gradient_of_the_mean_exposure(case: TransportCase, reduced: ReducedTransport) -> None:
    readout = reduced.vectors[case.tissue.ktrans > 1.0].mean(axis=0)
    theta = jnp.asarray(case.space.sample(1, 13, "gradient")[0])

    @jax.jit
    def mean(t: jax.Array) -> jax.Array:
        return reduced.run(case, t[None, :], jnp)[1][0, -1] @ readout

    gradient = np.asarray(jax.grad(mean)(theta))
    for i in range(case.space.size):
        h = 1e-5 * float(theta[i])
        slope = float(mean(theta.at[i].add(h)) - mean(theta.at[i].add(-h))) / (2 * h)
        assert gradient[i] == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_a_bad_member_has_a_code(case: TransportCase, reduced: ReducedTransport) -> None:
    theta = case.space.sample(3, 14, "bad")
    good = reduced.run(case, theta)[0]
    theta[1, 0] = np.nan
    amount, exposure, status = reduced.run(case, theta)
    assert status.tolist() == [0, NOT_FINITE, 0]
    assert np.isfinite(amount).all() and np.isfinite(exposure).all()
    np.testing.assert_array_equal(amount[[0, 2]], good[[0, 2]])


def test_an_unknown_parameter_is_refused(case: TransportCase) -> None:
    with pytest.raises(BadInput, match="no parameter 'ktrans_facto'"):
        replace(case, fixed={"ktrans_facto": 1.0})
