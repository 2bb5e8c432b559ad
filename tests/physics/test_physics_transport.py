"""Transport: bad input, many-membered plans, species, symmetric terms. The oracles are in the verification suite."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import expm

from vvuq_twin.domain.errors import BadInput, RunFailed
from vvuq_twin.domain.grid import Grid
from vvuq_twin.kinetics.plasma import Dose, PlasmaModel, course, rate_matrix
from vvuq_twin.physics.agents import load_agent
from vvuq_twin.physics.faces import assemble
from vvuq_twin.physics.smallexp import small_expm
from vvuq_twin.physics.tissue import Drug, Tissue, reaction_sink, transport_terms
from vvuq_twin.physics.transport import (
    BAD_PARAMETER,
    NOT_FINITE,
    OK,
    total_exposure,
    transport,
    transport_members,
)


@pytest.fixture(scope="module")
def tissue():
    rng = np.random.default_rng(1)
    grid = Grid((6, 5, 7), (2.0, 2.0, 3.0))
    faces = assemble(
        grid, rng.random(grid.shape) < 0.9, rng.integers(1, 3, grid.shape), {"white": 1, "grey": 2}
    )
    return Tissue(faces, rng.random(faces.n), 0.2 + 0.3 * rng.random(faces.n))


@pytest.fixture(scope="module")
def plan():
    agent = load_agent("temozolomide")
    return course(agent.plasma_model(), [Dose(0.0, 150.0, agent.compartment("oral"))])


def test_small_exponential_is_scipys():
    rng = np.random.default_rng(2)
    for scale in (1e-6, 0.1, 1.0, 30.0):
        m = scale * rng.random((5, 5))
        m -= np.diag(m.sum(axis=0) * 1.1)
        out, a, b = np.empty_like(m), np.empty_like(m), np.empty_like(m)
        small_expm(m, out, a, b)
        np.testing.assert_allclose(out, expm(m), rtol=1e-11, atol=1e-15)


def test_two_voxels_exchange_by_diffusion_only(plan):
    """One voxel is fed, the other only reached by diffusion: what arrives left the first."""
    grid = Grid((2, 1, 1), (1.0, 1.0, 1.0))
    faces = assemble(grid, np.ones(grid.shape, bool), np.ones(grid.shape, int), {"white": 1})
    pair = Tissue(faces, np.array([0.5, 0.0]), np.array([0.3, 0.3]))
    still = transport(pair, Drug(np.array([0.0])), plan, np.array([2.0]), 0.05).amount[0, 0]
    moving = transport(pair, Drug(np.array([0.2])), plan, np.array([2.0]), 0.05).amount[0, 0]
    assert still[1] == 0.0 and 0 < moving[1] < moving[0] < still[0]


def test_uniform_tissue_does_not_feel_diffusion(plan):
    grid = Grid((4, 4, 4), (1.0, 1.0, 1.0))
    faces = assemble(grid, np.ones(grid.shape, bool), np.ones(grid.shape, int), {"white": 1})
    one = Tissue(faces, np.full(faces.n, 0.5), np.full(faces.n, 0.3))
    a = transport(one, Drug(np.array([0.0])), plan, np.array([1.0, 5.0]), 0.5).amount
    b = transport(one, Drug(np.array([1.0])), plan, np.array([1.0, 5.0]), 0.5).amount
    np.testing.assert_allclose(a, b, rtol=1e-12)


def test_exposure_without_elimination_in_tissue_is_phi_times_auc(tissue, plan):
    """With no loss but back to plasma, diffusion does not change the exposure of c: it is that of plasma everywhere."""
    e = total_exposure(tissue, Drug(np.array([1.0, 0.3])), plan)
    np.testing.assert_allclose(e, tissue.phi * plan.unbound * plan.total_exposure(), rtol=1e-9)


def test_reaction_sink():
    assert reaction_sink(np.array([[-0.4]])) == pytest.approx(0.4)
    # free -> bound -> internalised: the bound share that is internalised is lost
    r = np.array([[-1.0, 0.5, 0.0], [0.6, -0.8, 0.0], [0.0, 0.3, 0.0]])
    assert reaction_sink(r) == pytest.approx(1.0 - 0.5 * 0.6 / 0.8)


def test_terms_are_symmetric_in_concentration(tissue):
    terms = transport_terms(tissue)
    k = terms.symmetric(tissue.faces.conductance(np.array([1.0, 0.3])))
    assert abs(k - k.T).max() < 1e-15
    assert np.abs(k.sum(axis=1)).max() < 1e-14
    assert terms.convection is None


def test_dose_is_linear(tissue):
    agent = load_agent("gadolinium")
    model, drug = agent.plasma_model(), agent.drug(tissue.faces.names)
    one, two = (
        transport(
            tissue, drug, course(model, [Dose(0.2, a, duration=0.1)]), np.array([0.0, 0.25, 1.0]), 0.1
        ).amount
        for a in (1.0, 2.0)
    )
    assert not one[0].any() and one[1].min() > 0
    np.testing.assert_allclose(two, 2 * one, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"times": np.array([])}, "output times"),
        ({"times": np.array([2.0, 1.0])}, "go backwards"),
        ({"dt_max": -1.0}, "not positive"),
        ({"scheme": "quick"}, "scheme 'quick' is not known"),
    ],
)
def test_bad_input_of_a_run(tissue, plan, arguments, message):
    with pytest.raises(BadInput, match=message):
        transport(tissue, Drug(np.ones(2)), plan, **({"times": np.array([1.0]), "dt_max": 0.1} | arguments))


def test_bad_maps_and_drugs(tissue):
    n = tissue.faces.n
    for ktrans, phi, message in (
        (np.full(n, -1.0), tissue.phi, "ktrans has a value"),
        (tissue.ktrans, np.zeros(n), "phi has a value"),
        (tissue.ktrans[:-1], tissue.phi, "shape"),
        (np.full(n, np.nan), tissue.phi, "non-finite"),
    ):
        with pytest.raises(BadInput, match=message):
            Tissue(tissue.faces, ktrans, phi)
    with pytest.raises(BadInput, match="creates drug"):
        Drug(np.ones(2), np.array([[0.1]]))
    with pytest.raises(BadInput, match="diffusivity is negative"):
        Drug(-np.ones(2))


def test_a_plan_of_many_members_is_refused(tissue):
    k = rate_matrix(("central",), {("central", "out"): np.array([0.3, 0.4])})
    many = course(PlasmaModel(("central",), k, np.array([10.0, 12.0])), [Dose(0.0, 1.0)])
    with pytest.raises(BadInput, match="more than one member"):
        transport(tissue, Drug(np.ones(2)), many, np.array([1.0]), 0.1)


@pytest.fixture(scope="module")
def flowing(tissue):
    rng = np.random.default_rng(6)
    velocity = tuple(rng.normal(size=tissue.faces.box) for _ in range(3))
    return Tissue(tissue.faces, tissue.ktrans, tissue.phi, velocity=velocity)


def bound_and_free() -> Drug:
    return Drug(np.array([0.4, 0.9]), np.array([[-0.5, 0.1], [0.3, -0.1]]), ("free", "bound"))


@pytest.mark.parametrize("scheme", ["upwind", "van_leer"])
def test_float32_is_float64_to_its_precision(flowing, plan, scheme):
    times = np.array([0.5, 3.0])
    wide, narrow = (
        transport(flowing, bound_and_free(), plan, times, 0.1, scheme, precision=precision)
        for precision in (np.float64, np.float32)
    )
    assert wide.amount.dtype == np.float64
    for name in ("amount", "exposure"):
        a, b = getattr(wide, name), getattr(narrow, name)
        assert b.dtype == np.float32
        np.testing.assert_allclose(b, a, atol=2e-6 * a.max())
    assert np.abs(narrow.balance.residual).max() < 1e-5


def test_members_are_those_run_one_by_one(flowing, plan):
    """Each with its own diffusivity, velocity, exchange and kinetics; those that fail have a code and zeros."""
    times = np.array([0.5, 2.0])

    def member(i):
        speed = tuple((1.0 + 0.5 * i) * v for v in flowing.velocity)
        own = Tissue(flowing.faces, (0.5 + i) * flowing.ktrans, flowing.phi, velocity=speed)
        drug = Drug(np.array([0.1, 0.3]) * (i + 1.0), np.array([[-0.2 * i]]))
        return own, drug, plan if i != 3 else replace(plan, matrix=plan.matrix + 1e3 * np.eye(plan.size))

    def with_a_bad_one(i):
        return member(i) if i != 1 else (flowing, Drug(np.array([np.nan, 1.0])), plan)

    got = transport_members(flowing.faces, with_a_bad_one, 4, times, 0.1)
    assert got.status.tolist() == [OK, BAD_PARAMETER, OK, NOT_FINITE]
    for i in (0, 2):
        alone = transport(*member(i), times, 0.1)
        np.testing.assert_array_equal(got.amount[i], alone.amount)
        np.testing.assert_array_equal(got.exposure[i], alone.exposure)
    assert not got.amount[[1, 3]].any() and not got.exposure[[1, 3]].any()
    with pytest.raises(RunFailed, match="2 of 4 transport runs failed, the first is member 1"):
        got.sound()


def test_members_keep_what_is_asked_for(flowing, plan):
    times, cells = np.array([1.0]), flowing.ktrans > 0.5
    alone = transport(flowing, bound_and_free(), plan, times, 0.1)
    got = transport_members(
        flowing.faces, lambda i: (flowing, bound_and_free(), plan), 2, times, 0.1, species=[1], cells=cells
    ).sound()
    np.testing.assert_array_equal(got.amount[1], alone.amount[:, 1:][..., cells])
    np.testing.assert_array_equal(got.exposure[1], alone.exposure[:, 1:][..., cells])


def test_what_is_wrong_for_all_members_is_refused(flowing, plan):
    def member(i):
        return flowing, bound_and_free(), plan

    with pytest.raises(BadInput, match="scheme 'quick' is not known"):
        transport_members(flowing.faces, member, 2, np.array([1.0]), 0.1, "quick")
    other = assemble(
        flowing.faces.grid, flowing.faces.mask, np.ones(flowing.faces.grid.shape, int), {"one": 1}
    )
    with pytest.raises(BadInput, match="member 0 is on other cells"):
        transport_members(other, member, 2, np.array([1.0]), 0.1)
