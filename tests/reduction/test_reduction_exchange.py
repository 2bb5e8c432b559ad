"""The uncertain exchange map: its modes, its interpolation, and both orders of transport with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from transport_small import STEP, small_modes, small_transport, tumour, uncertain_map, uncertain_reduced

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.physics.agents import load_agent
from vvuq_twin.reduction.backend import jax, jnp
from vvuq_twin.reduction.exchange import (
    ExchangeModes,
    deviations,
    exchange_modes,
    exchange_parameters,
    fading,
    log_sd,
)
from vvuq_twin.reduction.transport import validate_transport


def test_modes_are_the_leading_eigenvectors_of_the_covariance() -> None:
    faces = small_transport().tissue.faces
    sd = fading(faces, tumour(), 0.3, 4.0)
    points = faces.grid.points(faces.mask)
    square = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    covariance = sd[:, None] * sd[None] * np.exp(-square / (2.0 * 8.0**2))
    values, vectors = np.linalg.eigh(covariance)
    found = small_modes()
    np.testing.assert_allclose((found.patterns**2).sum(axis=1), values[::-1][:3], rtol=1e-5)
    assert found.carried == pytest.approx(values[::-1][:3].sum() / values.sum(), rel=1e-5)
    unit = found.patterns[0] / np.linalg.norm(found.patterns[0])
    assert abs(unit @ vectors[:, -1]) == pytest.approx(1.0, abs=1e-6)


def test_the_error_fades_over_the_rim() -> None:
    faces = small_transport().tissue.faces
    sd = fading(faces, tumour(), 0.3, 4.0)
    assert (sd[tumour()] == 0.3).all() and sd[~tumour()].max() == pytest.approx(0.15)
    modes = small_modes()
    assert not modes.patterns[:, sd == 0].any()
    assert exchange_modes(faces, 0.0 * sd, 6.0, 4).patterns.shape == (0, faces.n)


def test_a_maps_standard_error_becomes_that_of_its_logarithm() -> None:
    sd = log_sd(np.array([2.0, 2.0, 0.0, np.nan]), np.array([0.5, np.nan, 0.1, 0.1]))
    spread = stats.lognorm(sd[0])
    assert spread.std() / spread.mean() == pytest.approx(0.25)
    assert not sd[1:].any()


def test_interpolated_changes_of_unseen_maps() -> None:
    base, patterns = small_transport().tissue.ktrans, small_modes().patterns
    z = np.random.default_rng(0).standard_normal((50, len(patterns)))
    wanted = base * np.expm1(z @ patterns)
    errors = []
    for terms in (10, 160):
        found = deviations(base, patterns, 1e-8, terms)
        gap = np.linalg.norm(wanted[:, found.points] @ found.modes.T - wanted, axis=1)
        errors.append((gap / np.linalg.norm(base + wanted, axis=1)).max())
    assert errors[1] < 1e-4 and errors[1] < 1e-2 * errors[0]
    # in first order only, the map would be wrong by far more
    assert (np.linalg.norm(base * (z @ patterns) - wanted, axis=1) / np.linalg.norm(base + wanted, axis=1)).max() > 0.05  # fmt: skip


def test_the_full_orders_map_is_the_exponential() -> None:
    case = uncertain_map()
    theta = case.space.sample(2, 1, "map")
    x = case.inputs(theta)
    scores = theta[:, [case.space.index(f"exchange_{i}") for i in range(1, 4)]]
    wanted = x.factor[1] * case.tissue.ktrans * np.exp(scores[1] @ case.exchange)
    np.testing.assert_allclose(case.member(x, 1)[0].ktrans, wanted, rtol=1e-13)


def test_unseen_maps_agree_with_the_full_order() -> None:
    case, reduced = uncertain_map(), uncertain_reduced()
    theta = case.space.sample(6, 9, "maps")
    errors = validate_transport(reduced, case, theta, STEP, tumour())
    assert errors["amount_worst"] < 1e-3 and errors["exposure_worst"] < 1e-3 and errors["map_worst"] < 1e-4
    # the scores matter: without them the amounts are wrong by far more
    flat = theta.copy()
    flat[:, case.space.index("exchange_1") :] = 0.0
    a, b = (reduced.total_exposure(case, t) @ reduced.vectors[tumour()].T for t in (theta, flat))
    assert (np.linalg.norm(a - b, axis=1) / np.linalg.norm(a, axis=1)).max() > 0.03


def test_gradient_in_the_scores() -> None:
    case, reduced = uncertain_map(), uncertain_reduced()
    readout = reduced.vectors[tumour()].mean(axis=0)

    @jax.jit
    def mean(t: jax.Array) -> jax.Array:
        return reduced.run(case, t[None, :], jnp)[1][0, -1] @ readout

    theta = jnp.asarray(case.space.sample(1, 13, "gradient")[0])
    gradient = np.asarray(jax.grad(mean)(theta))
    for i in range(case.space.index("exchange_1"), case.space.size):
        at = [float(mean(theta.at[i].add(k * 1e-2))) for k in (-2, -1, 1, 2)]
        slope = (8.0 * (at[2] - at[1]) - (at[3] - at[0])) / 12e-2
        assert gradient[i] == pytest.approx(slope, rel=1e-6)


def test_what_cannot_be() -> None:
    case = uncertain_map()
    faces, sd = case.tissue.faces, np.full(case.tissue.faces.n, 0.3)
    with pytest.raises(BadInput, match="off the cells"):
        replace(case, exchange=case.exchange[:, 1:])
    with pytest.raises(BadInput, match="more modes"):
        replace(case, exchange=case.exchange[:2])
    with pytest.raises(BadInput, match="standard deviation"):
        exchange_modes(faces, -sd, 6.0, 3)
    with pytest.raises(BadInput, match="make no smooth field"):
        exchange_modes(faces, sd, 0.0, 3)
    with pytest.raises(BadInput, match="not linear"):
        replace(case, agent=load_agent("doxorubicin"))
    assert len(exchange_parameters(ExchangeModes(np.zeros((2, 5)), 1.0))) == 2
