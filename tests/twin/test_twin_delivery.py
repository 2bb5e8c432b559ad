"""Delivery to a tumour: what comes out is where it should be, and bad input is a sentence."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.kinetics.plasma import Dose
from vvuq_twin.physics.agents import load_agent
from vvuq_twin.twin.delivery import Catheter, deliver

GRID = Grid((9, 9, 9), (2.0, 2.0, 2.0))
ORGAN = np.ones(GRID.shape, bool)
TUMOUR = np.zeros(GRID.shape, bool)
TUMOUR[3:6, 3:6, 3:6] = True


BOLUS = (Dose(0.0, 90.0),)


def run(agent="doxorubicin", doses=BOLUS, times=(0.5, 2.0), **named):
    named = {"organ": ORGAN, "tumour": TUMOUR} | named
    drug = load_agent(agent)
    given = [Dose(d.time, d.amount, drug.compartment("intravenous"), d.duration) for d in doses]
    return deliver(GRID, named.pop("organ"), named.pop("tumour"), drug, given, np.array(times), 0.1, **named)


def test_the_tumour_is_at_high_pressure_and_takes_more_drug():
    found = run()
    assert found.flow.pressure[found.tumour].mean() > 10.0 > found.flow.pressure[~found.tumour].mean()
    free = found.run.amount[:, 0]
    assert (free[0][found.tumour].mean() > free[0][~found.tumour].mean()) and (free > 0).all()
    assert np.abs(found.run.ledger.residual).max() < 1e-12


def test_a_carrier_releases_in_the_heated_tumour():
    found = run("liposomal_doxorubicin")
    carrier = found.run.ledger.names.index("carrier")
    cells = found.run.ledger.names.index("cell")
    late = found.run.amount[-1]
    assert late[cells][found.tumour].mean() > 1.3 * late[cells][~found.tumour].mean()
    assert np.abs(found.run.ledger.residual[:, carrier]).max() < 1e-12


def test_a_catheter_raises_pressure_and_brings_what_it_says():
    tip = Catheter((8.0, 8.0, 8.0), 100.0, 30.0, 0.5, 1.5)
    found = run(doses=(), catheter=tip, times=(0.5, 1.0, 1.5, 3.0))
    given = found.run.ledger.of("given")[:, 0]
    np.testing.assert_allclose(given, [0.0, 100e-6 * 30 * 0.5, 100e-6 * 30, 100e-6 * 30], rtol=1e-12)
    assert found.infused is not None and found.infused.pressure.max() > found.flow.pressure.max()
    assert found.infused.infused.sum() * GRID.voxel_volume == pytest.approx(100.0)
    assert np.abs(found.run.ledger.residual[1:]).max() < 1e-12
    assert (
        found.run.amount[1, 0].argmax()
        == found.faces.scatter(found.infused.infused).ravel()[found.faces.mask.ravel()].argmax()
    )


def test_perfusion_and_ve_maps_shape_the_uptake():
    perfusion = np.ones(GRID.shape)
    perfusion[4, 4, 4] = 0.0
    found = run(perfusion=perfusion, interstitium=np.full(GRID.shape, 0.25), times=(0.02,))
    field = found.faces.scatter(found.run.amount[0, 0])
    assert field[4, 4, 4] < 0.5 * field[3, 3, 3]
    np.testing.assert_allclose(found.tissue.phi, 0.25)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"tumour": np.zeros(GRID.shape, bool)}, "empty or touches nothing"),
        ({"organ": ~TUMOUR}, "empty or touches nothing"),
        ({"tumour": TUMOUR[:-1]}, "not on the grid"),
        ({"perfusion": np.full(GRID.shape, np.nan)}, "no usable voxel"),
        ({"catheter": Catheter((8.0, 8.0, 8.0), -1.0, 1.0, 0.0, 1.0)}, "negative or not finite"),
        ({"catheter": Catheter((99.0, 8.0, 8.0), 1.0, 1.0, 0.0, 1.0)}, "touches no active voxel"),
        ({"catheter": Catheter((8.0, 8.0, 8.0), 1.0, 1.0, 1.0, 0.5)}, "ends before it starts"),
    ],
)
def test_bad_input(named, message):
    with pytest.raises(BadInput, match=message):
        run(**named)
