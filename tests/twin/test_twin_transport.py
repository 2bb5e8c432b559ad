"""Both orders of drug transport give the same exposure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.domain.parameters import LogNormal, Parameter, ParameterSpace
from vvuq_twin.kinetics.plasma import Dose
from vvuq_twin.physics.agents import load_agent
from vvuq_twin.physics.faces import assemble
from vvuq_twin.physics.tissue import Tissue
from vvuq_twin.reduction.backend import jax, jnp
from vvuq_twin.reduction.schedule import padded_schedule
from vvuq_twin.reduction.training import training_parameters
from vvuq_twin.reduction.transport import build_transport
from vvuq_twin.reduction.transport_case import TransportCase
from vvuq_twin.twin.transport import FullOrderTransport, ReducedTransportTwin

Twins = tuple[FullOrderTransport, ReducedTransportTwin]


@pytest.fixture(scope="module")
def twins() -> Twins:
    grid = Grid((9, 9, 8), (2.0, 2.0, 2.0))
    x, y, z = np.meshgrid(*grid.centres(), indexing="ij")
    faces = assemble(grid, np.ones(grid.shape, bool), np.ones(grid.shape, int), {"white": 1})
    ktrans = faces.gather(0.5 + 2.0 * np.exp(-((x - 8) ** 2 + (y - 8) ** 2 + (z - 7) ** 2) / 30.0))
    agent = load_agent("temozolomide")
    space = ParameterSpace((*agent.parameters(), Parameter("ktrans_factor", "1", LogNormal(1.0, 0.3))))
    tissue = Tissue(faces, ktrans, np.full(faces.n, 0.3))
    case = TransportCase(tissue, agent, (Dose(0.0, 150.0, "gut"),), np.arange(1.0, 9.0), space)
    model = build_transport(case, training_parameters(space, 8, 1), 0.05, 1e-6, 20)
    return FullOrderTransport(case, 0.05), ReducedTransportTwin(case, model)


def test_both_orders_agree(twins: Twins) -> None:
    full, reduced = twins
    theta = full.space.sample(4, 2, "twin")
    a, b = full.trajectory(theta), reduced.trajectory(theta)
    assert (a.status == 0).all() and (b.status == 0).all()
    np.testing.assert_allclose(reduced.exposure(theta), full.exposure(theta), rtol=3e-3)
    peak = np.abs(a.values).max()
    for t in range(8):
        x, y = full.fields(a.values[:, t]), reduced.fields(b.values[:, t])
        np.testing.assert_allclose(x.at(np.arange(50)), y.at(np.arange(50)), atol=5e-3 * peak)


def test_mean_exposure_and_its_gradient(twins: Twins) -> None:
    full, reduced = twins
    region = full.case.tissue.ktrans > 1.5
    mean = jax.jit(reduced.mean_exposure(region))
    theta = full.space.sample(1, 3, "mean")[0]
    expected = full.exposure(theta[None, :])[0, region].mean()
    assert float(mean(theta)[0]) == pytest.approx(expected, rel=1e-3)
    slope = np.asarray(jax.jacrev(mean)(jnp.asarray(theta)))[0]
    for i in range(full.space.size):
        up, down = theta.copy(), theta.copy()
        up[i] *= 1 + 1e-5
        down[i] *= 1 - 1e-5
        numeric = float(mean(up)[0] - mean(down)[0]) / (2e-5 * theta[i])
        assert slope[i] == pytest.approx(numeric, rel=1e-5, abs=1e-7)


def test_mean_amount_after_doses_that_are_data(twins: Twins) -> None:
    """Against the full order with the schedule built in."""
    full, reduced = twins
    region, theta = full.case.tissue.ktrans > 1.5, full.space.sample(2, 5, "schedule")
    doses, times = (Dose(0.5, 80.0, "gut"), Dose(2.0, 40.0, "central", 1.0)), np.array([1.0, 3.0, 6.0])
    schedule = padded_schedule(doses, times, full.case.agent.plasma_model())
    found = np.asarray(reduced.mean_amount(region)(theta, schedule))
    wanted = (
        replace(full.case, doses=doses, times=times)
        .full(theta, 0.05)
        .amount[:, :, 0][:, :, region]
        .mean(axis=2)
    )
    np.testing.assert_allclose(found, wanted, rtol=3e-3)
    np.testing.assert_allclose(reduced.mean_amount(region)(theta[1], schedule), found[1], rtol=1e-10)


def test_a_failed_member_has_a_code(twins: Twins) -> None:
    theta = twins[0].space.sample(3, 4, "bad")
    theta[1, 0] = np.nan
    for model in twins:
        out = model.trajectory(theta)
        assert out.status[1] != 0 and out.status[0] == 0 and out.status[2] == 0
        assert np.isfinite(out.values).all()


def test_a_model_of_other_tissue_is_refused(twins: Twins) -> None:
    with pytest.raises(BadInput, match="voxels"):
        ReducedTransportTwin(twins[1].case, replace(twins[1].model, vectors=np.zeros((5, 3))))
